// Machines by name: what their makers say they can do at best.
//
// The figures are those of src/pellucid/explore/peaks.py: peaks.json is written from it by
// `python tests/golden/make_roofline.py` and not edited by hand.

import SHEETS from "./peaks.json" with { type: "json" };
import type { Hardware } from "./roofline";
import type { Device } from "./work";

/** What one data sheet says. Rates per second. */
export interface Peak {
  readonly title: string;
  readonly device: Device;
  readonly flop_s_32: number;
  readonly flop_s_16: number;
  readonly flop_s_8: number;
  readonly bytes_s: number;
  readonly source: string;
}

export type PeakName = keyof typeof SHEETS.peaks;

export const PEAKS = SHEETS.peaks as Readonly<Record<PeakName, Peak>>;

export function isPeakName(name: string): name is PeakName {
  return Object.hasOwn(PEAKS, name);
}

/**
 * The machine of a data sheet.
 *
 * activationBytes: size of the numbers that are multiplied, which decides the matrix rate.
 */
export function specHardware({ title, device, ...peak }: Peak, activationBytes = 2): Hardware {
  const rates = new Map([
    [4, peak.flop_s_32],
    [2, peak.flop_s_16],
    [1, peak.flop_s_8],
  ]);
  return {
    name: title,
    kind: "spec",
    device,
    flop_s: rates.get(Math.trunc(activationBytes)) ?? peak.flop_s_16,
    bytes_s: peak.bytes_s,
    ...SHEETS.starts[device],
    library_node_s: SHEETS.starts[device].node_s,
    attention_launches: 1,
    host_row_s: 0,
    host_token_s: 0,
    eta_gemm: 1,
    gemm_rows: 0,
    eta_gemv: 1,
    eta_attention_flops: 1,
    attention_positions: 0,
    eta_attention_bytes: 1,
    eta_reduction: 1,
    eta_elementwise: 1,
    fastest: 1,
    slowest: SHEETS.slowest,
  };
}
