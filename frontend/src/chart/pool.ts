// Where the blocks of the pool stand in the picture: in rows by their number. Of a large pool only
// rows are drawn in which somebody has held a block; what lies between is said in words.

export const CELL = { width: 34, height: 30, gap: 4 };
export const GUTTER = 48;
const GAP_HEIGHT = 26;
/** So many blocks are drawn in any case. */
const SMALL = 256;
const MOST_ROWS = 48;

export type Line =
  | { readonly type: "row"; readonly y: number; readonly blocks: readonly number[] }
  | { readonly type: "gap"; readonly y: number; readonly from: number; readonly to: number };

export interface Plan {
  readonly lines: readonly Line[];
  readonly height: number;
  /** Rows in use that would make the picture too long. */
  readonly left: number;
}

/** Cells in a row; the rest of the width stays empty. */
export const columnsIn = (width: number): number =>
  Math.max(4, Math.floor((width - GUTTER + CELL.gap) / (CELL.width + CELL.gap)));

export function planOf(held: Iterable<number>, numBlocks: number, columns: number): Plan {
  const wanted = new Set([...held].map((block) => Math.floor(block / columns)));
  const numRows = Math.ceil(numBlocks / columns);
  const rows =
    numBlocks <= SMALL
      ? Array.from({ length: numRows }, (_, row) => row)
      : [...wanted].sort((a, b) => a - b).slice(0, MOST_ROWS);
  const lines: Line[] = [];
  let y = 0;
  let next = 0;
  const gap = (to: number): void => {
    if (to < next) return;
    lines.push({ type: "gap", y, from: next, to });
    y += GAP_HEIGHT;
  };
  for (const row of rows) {
    const from = row * columns;
    gap(from - 1);
    const end = Math.min(numBlocks, from + columns);
    lines.push({ type: "row", y, blocks: Array.from({ length: end - from }, (_, k) => from + k) });
    y += CELL.height + CELL.gap;
    next = end;
  }
  const left = Math.max(0, wanted.size - rows.length);
  if (left === 0) gap(numBlocks - 1);
  return { lines, height: Math.max(1, y), left };
}
