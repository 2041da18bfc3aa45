// From a run's raw samples to what is drawn: for each length, each part's milliseconds and share.
//
// A share is taken within a block, part / wall of the same block, and the median over blocks comes
// last; so a block in which the machine was slow changes no share. A group's samples are the sums of
// its stages', block by block. Medians do not add up exactly; nothing is stretched to make them.

import { Figure, KIND_WORDS, type Kind } from "./provenance";
import type { Answer } from "./answers";
import { type Cell, type Phase, PHASES, type RunFile } from "./runfile";
import { type Detail, type Part, partOf, partsOf } from "./stages";

const NS_PER_MS = 1e6;

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
export type Samples = Pick<Cell, "length" | "wall_ns" | "stages_ns">;

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
  const amounts = parts.map((part) => [part.key, amountOf(cell, part.key, detail, kind)] as const);
  const wall = Figure.median(
    cell.wall_ns.map((ns) => ns / NS_PER_MS),
    kind,
  );
  return { length: cell.length, wall, amounts: new Map(amounts) };
}

function amountOf(cell: Samples, part: string, detail: Detail, kind: Kind): Amount {
  const stages = Object.entries(cell.stages_ns).filter(([key]) => partOf(key, detail) === part);
  const sums = cell.wall_ns.map((_, block) => stages.reduce((sum, [, ns]) => sum + (ns[block] ?? 0), 0));
  return {
    ms: Figure.median(
      sums.map((ns) => ns / NS_PER_MS),
      kind,
    ),
    share: Figure.median(
      sums.map((ns, block) => ns / (cell.wall_ns[block] ?? NaN)),
      kind,
    ),
  };
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
