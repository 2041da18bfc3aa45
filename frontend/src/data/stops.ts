// The lengths at which the cursor rests: those that were measured, and beyond them the round ones of
// the model, if it is shown.

import type { Budget, Column } from "./budget";

export interface Stop {
  readonly length: number;
  readonly measured: Column | null;
  readonly modelled: Column | null;
}

export function stopsOf(budget: Budget, model: Budget | null): Stop[] {
  const columns = model?.columns ?? [];
  const last = budget.columns.at(-1)?.length ?? 0;
  const beyond = columns.filter(
    (column, index) => column.length > last && (isRound(column.length) || index === columns.length - 1),
  );
  return [
    ...budget.columns.map((measured) => ({
      length: measured.length,
      measured,
      modelled: columns.find(({ length }) => length === measured.length) ?? null,
    })),
    ...beyond.map((modelled) => ({ length: modelled.length, measured: null, modelled })),
  ];
}

const isRound = (length: number): boolean => Number.isInteger(Math.log2(length));
