// How fast each stage of a run was, and how fast it could have been: the points of a roofline.
//
//     intensity = flops / bytes          reached = flops / time
//     roof(intensity) = min(peak rate, intensity · bandwidth)
//
// Time is measured; flops and bytes are counted from shapes, by the server. Stages whose arithmetic is
// not worth counting have no intensity and thus no point: they are held against the bandwidth alone.

import type { Counts, Kernels, Limits } from "../api/types";
import type { Loaded } from "./budget";
import { Figure } from "./provenance";
import type { Cell, Phase } from "./runfile";

export interface Reached {
  readonly stage: string;
  readonly length: number;
  readonly flops: number;
  readonly bytes: number;
  readonly launches: number;
  /** Flops per byte; 0: none are counted. */
  readonly intensity: number;
  /** Milliseconds. */
  readonly time: Figure;
  /** Flops a second. */
  readonly rate: Figure;
  /** Bytes a second. */
  readonly traffic: Figure;
  /** Of the rate, or where there is none of the bandwidth, that was measured. */
  readonly share: Figure;
  readonly kernels: readonly Kernels[];
}

const NS_PER_MS = 1e6;
const NS_PER_S = 1e9;

/** What bounds a stage of this intensity at best. */
export const sideOf = (intensity: number, limits: Limits): "compute" | "bandwidth" =>
  intensity > ridgeOf(limits) ? "compute" : "bandwidth";

/** Flops per byte from which on arithmetic is what takes the time. */
export const ridgeOf = ({ flop_s, bytes_s }: Limits): number => flop_s / bytes_s;

export const roofAt = (intensity: number, { flop_s, bytes_s }: Limits): number =>
  Math.min(flop_s, intensity * bytes_s);

/** The points of one phase at one batch, the shortest length first. */
export function reachedBy(loaded: Loaded, counts: Counts, phase: Phase, batch: number): Reached[] {
  return loaded.run.cells
    .filter((cell) => cell.phase === phase && cell.batch === batch)
    .sort((a, b) => a.length - b.length)
    .flatMap((cell) => reachedIn(cell, loaded, counts));
}

function reachedIn(cell: Cell, { kind }: Loaded, { cells, limits }: Counts): Reached[] {
  const { phase, length, batch } = cell;
  const counted = cells.find((one) => one.phase === phase && one.length === length && one.batch === batch);
  return Object.entries(counted?.stages ?? {}).flatMap(([stage, kernels]): Reached[] => {
    const times = (cell.stages_ns[stage] ?? []).filter((ns) => ns > 0);
    const flops = sum(kernels.map((group) => group.flops));
    const bytes = sum(kernels.map((group) => group.bytes));
    if (times.length === 0 || bytes === 0) return [];
    const best = NS_PER_S * Math.max(flops / limits.flop_s, bytes / limits.bytes_s);
    const figure = (of: (ns: number) => number): Figure => Figure.median(times.map(of), kind);
    return [
      {
        stage,
        length,
        flops,
        bytes,
        launches: sum(kernels.map((group) => group.launches)),
        intensity: flops / bytes,
        time: figure((ns) => ns / NS_PER_MS),
        rate: figure((ns) => (flops * NS_PER_S) / ns),
        traffic: figure((ns) => (bytes * NS_PER_S) / ns),
        share: figure((ns) => best / ns),
        kernels,
      },
    ];
  });
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
