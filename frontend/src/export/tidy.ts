// A run as a tidy table: one row for each figure, with everything that says what it is.

import { batchesOf, budgetOf, type Budget, type Loaded } from "../data/budget";
import type { Figure } from "../data/provenance";
import { PHASES } from "../data/runfile";
import { deviceOf } from "../state/runs";

export const HEADER = [
  "run",
  "model",
  "phase",
  "batch",
  "length",
  "stage",
  "unit",
  "value",
  "lo",
  "hi",
  "interval",
  "n",
  "kind",
  "device",
  "commit",
] as const;

type Cell = string | number;

/** All phases, batches, lengths and stages of the runs, in milliseconds and in shares. */
export function tidy(runs: readonly Loaded[]): string {
  const rows = runs.flatMap((loaded) => budgetsOf(loaded).flatMap((budget) => rowsOf(loaded, budget)));
  return [HEADER, ...rows].map((row) => `${row.map(quoted).join(",")}\r\n`).join(""); // RFC 4180
}

function budgetsOf(loaded: Loaded): Budget[] {
  const all = PHASES.flatMap((phase) =>
    batchesOf(loaded.run, phase).map((batch) => budgetOf(loaded, phase, batch, "stages")),
  );
  return all.filter((budget) => budget !== null);
}

function rowsOf({ run }: Loaded, { phase, batch, columns }: Budget): Cell[][] {
  const row = (length: number, stage: string, unit: string, figure: Figure): Cell[] => {
    const {
      value,
      n,
      kind,
      interval: { lo, hi, how },
    } = figure;
    return [
      run.id,
      run.model.name,
      phase,
      batch,
      length,
      stage,
      unit,
      value,
      lo,
      hi,
      how,
      n,
      kind,
      deviceOf(run),
      run.environment.commit,
    ];
  };
  return columns.flatMap(({ length, wall, amounts }) => [
    row(length, "wall", "ms", wall),
    ...[...amounts].flatMap(([stage, { ms, share }]) => [
      row(length, stage, "ms", ms),
      row(length, stage, "share", share),
    ]),
  ]);
}

function quoted(cell: Cell): string {
  const text = String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
