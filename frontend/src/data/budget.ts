// From a run's raw samples to what is drawn: for each length, each part's milliseconds and share.
//
// A block has two runs: a plain one, whose wall time is the time that there is, and one with borders
// between the stages, which says how that time is shared out. So a share is taken within the second,
// part / all of it, and its milliseconds are that share of the first. What no stage claims of the
// second is `other`.
//
// The figure is the mean of the middle half of the blocks, those whose wall time is neither among the
// shortest nor among the longest, the same blocks for every part: so parts add up to the whole, and a
// block in which the machine was slow changes nothing. How far to trust it is said by all blocks.

import { Figure, KIND_WORDS, type Kind } from "./provenance";
import type { Answer } from "./answers";
import { type Cell, type Phase, PHASES, type RunFile } from "./runfile";
import { type Detail, type Part, partOf, partsOf } from "./stages";

const NS_PER_MS = 1e6;
const OTHER = "other";

/** What a budget is of: one phase as it was measured, or the request that both make together. */
export type Scope = Phase | "request";
export const SCOPES: readonly Scope[] = [...PHASES, "request"];

/** What has to be measured for it. */
export const phasesOf = (scope: Scope): readonly Phase[] => (scope === "request" ? PHASES : [scope]);

export const SCOPE_WORDS: Record<Scope, string> = {
  decode: "a decode step",
  prefill: "a prefill",
  request: "a whole request",
};

/** A run with what is known about it. */
export interface Loaded {
  readonly run: RunFile;
  readonly kind: Kind;
  readonly answers: readonly Answer[];
}

export interface Amount {
  readonly ms: Figure;
  readonly share: Figure;
}

export type Measure = keyof Amount;

export interface Column {
  readonly length: number;
  readonly wall: Figure;
  readonly amounts: ReadonlyMap<string, Amount>;
}

export interface Budget {
  readonly phase: Scope;
  readonly batch: number;
  readonly kind: Kind;
  /** What was done to the measured times, in words; empty: nothing. */
  readonly how: string;
  readonly parts: readonly Part[];
  readonly columns: readonly Column[];
}

/** The budget of one phase at one batch; null if the run has no such cells. */
export function budgetOf(loaded: Loaded, phase: Phase, batch: number, detail: Detail): Budget | null {
  const cells = loaded.run.cells.filter((cell) => cell.phase === phase && cell.batch === batch);
  return budgetFrom(cells, { phase, batch, kind: loaded.kind, how: "" }, detail);
}

/** What the columns of a budget are made of: the samples at one length, block by block. */
export type Samples = Pick<Cell, "length" | "wall_ns" | "timed_wall_ns" | "stages_ns">;

/** The budget of such samples; null if there are none. */
export function budgetFrom(
  cells: readonly Samples[],
  what: Omit<Budget, "parts" | "columns">,
  detail: Detail,
): Budget | null {
  if (cells.length === 0) return null;
  const stages = new Set(cells.flatMap((cell) => Object.keys(cell.stages_ns)));
  const parts = partsOf([...stages], detail);
  const columns = cells.map((cell) => columnOf(cell, parts, detail, what.kind));
  columns.sort((a, b) => a.length - b.length);
  return { ...what, parts, columns };
}

function columnOf(cell: Samples, parts: readonly Part[], detail: Detail, kind: Kind): Column {
  const wall = cell.wall_ns.map((ns) => ns / NS_PER_MS);
  const middle = middleHalf(wall);
  const claimed = sumOf(cell, (stage) => stage !== OTHER);
  const whole = claimed.map((ns, block) => Math.max(ns, cell.timed_wall_ns[block] ?? 0));
  const amounts = parts.map((part) => {
    const mine = sumOf(cell, (stage) => stage !== OTHER && partOf(stage, detail) === part.key);
    const rest =
      part.key === partOf(OTHER, detail) ? whole.map((ns, block) => ns - (claimed[block] ?? 0)) : [];
    const shares = whole.map((ns, block) => ((mine[block] ?? 0) + (rest[block] ?? 0)) / ns);
    const ms = shares.map((share, block) => share * (wall[block] ?? NaN));
    return [
      part.key,
      { ms: Figure.mean(ms, middle, kind), share: Figure.mean(shares, middle, kind, wall) },
    ] as const;
  });
  return { length: cell.length, wall: Figure.mean(wall, middle, kind), amounts: new Map(amounts) };
}

/** The time of some stages together, block by block. */
const sumOf = (
  { stages_ns: stages, wall_ns: walls }: Samples,
  counts: (stage: string) => boolean,
): number[] =>
  walls.map((_, block) =>
    Object.entries(stages).reduce((sum, [stage, ns]) => sum + (counts(stage) ? (ns[block] ?? 0) : 0), 0),
  );

/** The places of the middle half of some times: of ten, five; of three, one; of two, both. */
export function middleHalf(times: readonly number[]): number[] {
  const order = times.map((_, place) => place).sort((a, b) => (times[a] ?? 0) - (times[b] ?? 0));
  const left = Math.floor(times.length / 4 + (times.length % 4 === 3 ? 1 : 0));
  return order.slice(left, times.length - left);
}

/** Where a budget's figures come from, in words. */
export const originOf = ({ kind, how }: Pick<Budget, "kind" | "how">): string =>
  how ? `${KIND_WORDS[kind]}, ${how}` : KIND_WORDS[kind];

/** The batches that were measured; of a request, those of both its phases. */
export function batchesOf(run: RunFile, phase: Scope): number[] {
  if (phase === "request") {
    const prompts = batchesOf(run, "prefill");
    return batchesOf(run, "decode").filter((batch) => prompts.includes(batch));
  }
  const batches = run.cells.filter((cell) => cell.phase === phase).map((cell) => cell.batch);
  return [...new Set(batches)].sort((a, b) => a - b);
}

/** The column, or whatever has a length, that is nearest, by ratio. */
export function nearest(columns: readonly Pick<Column, "length">[], length: number): number {
  const far = (column: Pick<Column, "length">): number => Math.abs(Math.log2(column.length / length));
  return columns.reduce((best, column, index) => {
    const champion = columns[best];
    return champion && far(champion) <= far(column) ? best : index;
  }, 0);
}
