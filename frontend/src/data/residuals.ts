// What a calibrated machine should take beside what a run took, stage by stage and cell by cell.
//
// Only stages that take a hundredth of their step are judged, and what the host does counts as one
// stage; which these are, and what they should take, is in the calibration.

import type { Calibration, ModelledCell } from "./calibration";
import type { Loaded } from "./budget";
import { Figure, type Kind } from "./provenance";
import type { Cell, Phase } from "./runfile";

const HOST_STAGES = ["queue", "tokenize", "schedule", "prepare", "host_gap", "detokenize"];
const NS_PER_MS = 1e6;
const MS_PER_S = 1e3;

export interface Residual {
  readonly phase: Phase;
  readonly batch: number;
  readonly length: number;
  readonly stage: string;
  /** Whether the cell was set aside in the fit. */
  readonly heldOut: boolean;
  /** Milliseconds, both. */
  readonly measured: Figure;
  readonly modelled: Figure;
  /** Modelled / measured. */
  readonly ratio: number;
  /** Whether the measured time lies within the modelled one's band. */
  readonly within: boolean;
}

/** All visible stages of all cells, in the run's order. */
export function residualsOf(loaded: Loaded, calibration: Calibration): Residual[] {
  return loaded.run.cells.flatMap((cell) => {
    const { phase, length, batch } = cell;
    const told = calibration.cells.find((one) => isSame(one, cell));
    return Object.entries(told?.stages ?? {}).flatMap(([stage, { seconds }]): Residual[] => {
      const measured = measuredOf(cell, stage, loaded.kind);
      if (!measured) return [];
      const ms = seconds * MS_PER_S;
      const modelled = modelledOf(ms, calibration.hardware);
      const ratio = ms / measured.value;
      const within = measured.value >= modelled.interval.lo && measured.value <= modelled.interval.hi;
      const heldOut = told?.held_out ?? false;
      return [{ phase, batch, length, stage, heldOut, measured, modelled, ratio, within }];
    });
  });
}

const isSame = (one: ModelledCell, { phase, length, batch }: Cell): boolean =>
  one.phase === phase && one.length === length && one.batch === batch;

/** The median time of a stage; the host's stages summed up as `host_gap`. */
function measuredOf({ stages_ns: stages }: Cell, stage: string, kind: Kind): Figure | null {
  const keys = (stage === "host_gap" ? HOST_STAGES : [stage]).filter((key) => key in stages);
  if (keys.length === 0) return null;
  return Figure.total(keys.map((key) => Figure.median(inMs(stages[key] ?? []), kind)));
}

const modelledOf = (ms: number, { fastest, slowest, kind }: Calibration["hardware"]): Figure =>
  Figure.modelled(ms, ms * fastest, ms * slowest, kind);

const inMs = (ns: readonly number[]): number[] => ns.map((time) => time / NS_PER_MS);

/** How many of those lie within a band, and how many there are. */
export interface Coverage {
  readonly within: number;
  readonly of: number;
}

/** By the band that comes with every prediction, which was made from these very cells. */
export function coverageOf(held: readonly Residual[]): Coverage {
  return { within: held.filter((residual) => residual.within).length, of: held.length };
}

/** For each cell by the band of the other cells: what a cell that nobody looked at can expect. */
export function coverageOfOthers(held: readonly Residual[]): Coverage {
  const sameCell = (a: Residual, b: Residual): boolean =>
    a.phase === b.phase && a.length === b.length && a.batch === b.batch;
  const within = held.filter((residual) => {
    const others = held.filter((other) => !sameCell(other, residual)).map(({ ratio }) => 1 / ratio);
    const [fastest, slowest] = bandOf(others);
    return 1 / residual.ratio >= fastest && 1 / residual.ratio <= slowest;
  });
  return { within: within.length, of: held.length };
}

const BAND = 0.9;

/** Between which factors the middle nine tenths of measured / modelled lie; always around 1. */
export function bandOf(factors: readonly number[]): [fastest: number, slowest: number] {
  const margin = (1 - BAND) / 2;
  return [Math.min(1, quantile(factors, margin)), Math.max(1, quantile(factors, 1 - margin))];
}

/** The value that so large a part of `values` does not exceed. */
export function quantile(values: readonly number[], part: number): number {
  const ranked = [...values].sort((a, b) => a - b);
  return ranked[Math.max(0, Math.ceil(part * ranked.length) - 1)] ?? NaN;
}
