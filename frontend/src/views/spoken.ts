import type { Budget, Column } from "../data/budget";
import { inTokens, percent } from "../data/words";

/** "1,024 tokens: attention 12 %, matrices 61 %, other 1 %". */
export function spoken(column: Column, { parts }: Budget): string {
  const shares = parts.map(
    ({ key, label }) => `${label} ${percent(column.amounts.get(key)?.share.value ?? 0, 0)}`,
  );
  return `${inTokens(column.length)}: ${shares.join(", ")}`;
}
