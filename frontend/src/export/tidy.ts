// A run as a tidy table: one row for each figure, with everything that says what it is.

import { batchesOf, budgetOf, type Budget, type Loaded } from "../data/budget";
import { requestOf } from "../data/request";
import type { Figure } from "../data/provenance";
import { PHASES } from "../data/runfile";
import { deviceOf } from "../state/runs";
import { csvOf, type Cell } from "./csv";

export const HEADER = [
  "run",
  "model",
  "phase",
  "batch",
  "length",
  "output_tokens",
  "stage",
  "unit",
  "value",
  "lo",
  "hi",
  "interval",
  "n",
  "kind",
  "how",
  "device",
  "commit",
] as const;

/**
 * All phases, batches, lengths and stages of the runs, in milliseconds and in shares; whole requests
 * with `numOutputs` tokens of output.
 *
 * modelsOf: what the model says of the same, where it is shown.
 */
export async function tidy(
  runs: readonly Loaded[],
  numOutputs: number,
  modelsOf: Models = () => Promise.resolve([]),
): Promise<string> {
  const rows = runs.map(async (loaded) => {
    const budgets = budgetsOf(loaded, numOutputs);
    const all = [...budgets, ...(await modelsOf(loaded, budgets))];
    return all.flatMap((budget) => rowsOf(loaded, budget, numOutputs));
  });
  return csvOf([HEADER, ...(await Promise.all(rows)).flat()]);
}

type Models = (loaded: Loaded, budgets: readonly Budget[]) => Promise<readonly Budget[]>;

function budgetsOf(loaded: Loaded, numOutputs: number): Budget[] {
  const phases = PHASES.flatMap((phase) =>
    batchesOf(loaded.run, phase).map((batch) => budgetOf(loaded, phase, batch, "stages")),
  );
  const requests = batchesOf(loaded.run, "request").map((batch) =>
    requestOf(loaded, batch, numOutputs, "stages"),
  );
  return [...phases, ...requests].filter((budget) => budget !== null);
}

function rowsOf({ run }: Loaded, { phase, batch, how, columns }: Budget, numOutputs: number): Cell[][] {
  const row = (length: number, stage: string, unit: string, figure: Figure): Cell[] => {
    const {
      value,
      n,
      kind,
      interval: { lo, hi, how: interval },
    } = figure;
    return [
      run.id,
      run.model.name,
      phase,
      batch,
      length,
      phase === "request" ? numOutputs : "",
      stage,
      unit,
      value,
      lo,
      hi,
      interval,
      n,
      kind,
      how,
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
