// From a run's raw samples to what is drawn: for each length, each part's milliseconds and share.
//
// A share is taken within a block, part / wall of the same block, and the median over blocks comes
// last; so a block in which the machine was slow changes no share. A group's samples are the sums of
// its stages', block by block. Medians do not add up exactly; nothing is stretched to make them.

import { Figure, type Kind } from "./provenance";
import type { Answer } from "./answers";
import type { Cell, Phase, RunFile } from "./runfile";
import { type Detail, type Part, partOf, partsOf } from "./stages";

const NS_PER_MS = 1e6;

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
  readonly phase: Phase;
  readonly batch: number;
  readonly kind: Kind;
  readonly parts: readonly Part[];
  readonly columns: readonly Column[];
}

/** The budget of one phase at one batch; null if the run has no such cells. */
export function budgetOf(loaded: Loaded, phase: Phase, batch: number, detail: Detail): Budget | null {
  const cells = loaded.run.cells.filter((cell) => cell.phase === phase && cell.batch === batch);
  if (cells.length === 0) return null;
  const stages = new Set(cells.flatMap((cell) => Object.keys(cell.stages_ns)));
  const parts = partsOf([...stages], detail);
  const columns = cells.map((cell) => columnOf(cell, parts, detail, loaded.kind));
  columns.sort((a, b) => a.length - b.length);
  return { phase, batch, kind: loaded.kind, parts, columns };
}

function columnOf(cell: Cell, parts: readonly Part[], detail: Detail, kind: Kind): Column {
  const amounts = parts.map((part) => [part.key, amountOf(cell, part.key, detail, kind)] as const);
  const wall = Figure.median(
    cell.wall_ns.map((ns) => ns / NS_PER_MS),
    kind,
  );
  return { length: cell.length, wall, amounts: new Map(amounts) };
}

function amountOf(cell: Cell, part: string, detail: Detail, kind: Kind): Amount {
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

export function batchesOf(run: RunFile, phase: Phase): number[] {
  const batches = run.cells.filter((cell) => cell.phase === phase).map((cell) => cell.batch);
  return [...new Set(batches)].sort((a, b) => a - b);
}

/** The column whose length is nearest, by ratio. */
export function nearest(columns: readonly Column[], length: number): number {
  const far = (column: Column): number => Math.abs(Math.log2(column.length / length));
  return columns.reduce((best, column, index) => {
    const champion = columns[best];
    return champion && far(champion) <= far(column) ? best : index;
  }, 0);
}
