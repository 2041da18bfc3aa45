// Which data sheet is a machine's, by the name that its driver gives. Names that come with other
// memory or another board than the sheet's get none: a roof that is not this machine's says nothing.

import { PEAKS, type Peak, type PeakName } from "./peaks";

/** Processors have no sheet: theirs are of classes, not of one product. */
const NAMES: readonly (readonly [PeakName, RegExp])[] = [
  ["h100", /\bH100 (80GB HBM3|SXM\d?)$/],
  ["h100-pcie", /\bH100 PCIe$/i],
  ["h200", /\bH200( SXM)?$/],
  ["b200", /\bB200$/],
  ["a100-40", /\bA100\b.*\b40GB$/],
  ["a100-80", /\bA100-SXM4-80GB$/],
  ["l4", /\bL4$/],
  ["l40s", /\bL40S$/],
  ["rtx3090", /\bRTX 3090$/],
  ["rtx4090", /\bRTX 4090$/],
  ["rtx5090", /\bRTX 5090$/],
  ["mi300x", /\bMI300X$/],
];

export function sheetOf(device: string): Peak | null {
  const found = NAMES.find(([, name]) => name.test(device));
  return found ? PEAKS[found[0]] : null;
}
