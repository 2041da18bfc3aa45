// Which data sheet is a machine's, by the name that its driver gives. Names that come with other
// memory or another board than the sheet's get none: a roof that is not this machine's says nothing.

import { PEAKS, type Peak, type PeakName } from "./peaks";

/** Processors have no sheet: theirs are of classes, not of one product. */
const NAMES: readonly (readonly [PeakName, RegExp])[] = [
  ["h100", /\bH100 (80GB HBM3|SXM\d?)$/],
  ["h100-pcie", /\bH100 PCIe$/i],
  ["h100-nvl", /\bH100 NVL$/],
  ["h200", /\bH200( SXM)?$/],
  ["b200", /\bB200$/],
  ["gh200", /\bGH200 480GB$/],
  ["gh200-144", /\bGH200 144G HBM3e$/],
  ["a100-40", /\bA100\b.*\b40GB$/],
  ["a100-80", /\bA100-SXM4-80GB$/],
  ["v100", /\bV100-SXM2-(16|32)GB$/],
  ["v100-pcie", /\bV100-PCIE-(16|32)GB$/],
  ["t4", /\bT4$/],
  ["a10", /\bA10$/],
  ["a10g", /\bA10G$/],
  ["a30", /\bA30$/],
  ["a40", /\bA40$/],
  ["l4", /\bL4$/],
  ["l40s", /\bL40S$/],
  ["a6000", /\bRTX A6000$/],
  ["rtx6000-ada", /\bRTX 6000 Ada Generation$/],
  ["rtx3090", /\bRTX 3090$/],
  ["rtx4090", /\bRTX 4090$/],
  ["rtx4080", /\bRTX 4080$/],
  ["rtx4070", /\bRTX 4070$/],
  ["rtx5070", /\bRTX 5070$/],
  ["rtx5080", /\bRTX 5080$/],
  ["rtx5090", /\bRTX 5090$/],
  ["mi300x", /\bMI300X$/],
  ["mi325x", /\bMI325X$/],
];

export function sheetOf(device: string): Peak | null {
  const found = NAMES.find(([, name]) => name.test(device));
  return found ? PEAKS[found[0]] : null;
}
