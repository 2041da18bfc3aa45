// How fast each stage of a run was, and how fast it could have been: the points of a roofline.
//
//     intensity = flops / bytes          reached = flops / time
//     roof(intensity) = min(peak rate, intensity · bandwidth)
//
// Time is measured; flops and bytes are counted from shapes (work.ts). Stages whose arithmetic is not
// worth counting have no intensity and thus no point: they are held against the bandwidth alone.

import type { Loaded } from "../data/budget";
import { Figure } from "../data/provenance";
import type { Cell, Phase } from "../data/runfile";
import type { Limits, Setup } from "./setup";
import { loadOf, sum, type Stage, type Work } from "./work";

export interface Reached {
  readonly stage: Stage;
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

/** Kernels that are alike but for the number of their rows, all together. */
export interface Kernels {
  readonly kind: Work["kind"];
  /** Elements of one of the matrices; 0: none are multiplied. */
  readonly weights: number;
  readonly count: number;
  readonly flops: number;
  readonly bytes: number;
  readonly launches: number;
  /** Flops that one row, or one position a token, more would take. */
  readonly padFlops: number;
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
export function reachedBy(loaded: Loaded, setup: Setup, phase: Phase, batch: number): Reached[] {
  return loaded.run.cells
    .filter((cell) => cell.phase === phase && cell.batch === batch)
    .sort((a, b) => a.length - b.length)
    .flatMap((cell) => reachedIn(cell, loaded, setup));
}

function reachedIn(cell: Cell, { kind }: Loaded, { spec, choices, device, limits }: Setup): Reached[] {
  const { phase, length, batch } = cell;
  const { groups } = loadOf(spec, { phase, length, batch, prefix: 0 }, choices, device);
  const works = groups.flatMap(({ count, works: each }) => each.map((work) => ({ count, work })));
  const stages = [...new Set(works.map(({ work }) => work.stage))];
  return stages.flatMap((stage): Reached[] => {
    const times = (cell.stages_ns[stage] ?? []).filter((ns) => ns > 0);
    const kernels = grouped(works.filter(({ work }) => work.stage === stage));
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

/** By kind, and by size of the matrix if they multiply: chunks differ in their rows only. */
function grouped(works: readonly { count: number; work: Work }[]): Kernels[] {
  const groups = new Map<string, Kernels>();
  for (const { count, work } of works) {
    const { kind, weights } = work;
    const before = groups.get(`${kind} ${weights}`);
    groups.set(`${kind} ${weights}`, {
      kind,
      weights,
      count: (before?.count ?? 0) + count,
      flops: (before?.flops ?? 0) + count * work.flops,
      bytes: (before?.bytes ?? 0) + count * work.bytes,
      launches: (before?.launches ?? 0) + count * (work.launches + work.calls),
      padFlops: (before?.padFlops ?? 0) + count * work.padFlops,
    });
  }
  return [...groups.values()];
}
