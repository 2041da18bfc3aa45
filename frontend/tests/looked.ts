// A view of attention as the engine's process would send it, of made-up weights that obey the laws of
// real ones: rows sum to 1, nothing later is seen, and online softmax ends in plain softmax.

import type { Attention, Flash, FlashStep, FlashTile, Thumbnails } from "../src/data/attention";

export const LAYERS = 30;
export const HEADS = 9;
const GROUP = 3;
const DIM = 8;
const WINDOW = 6;
const MOST = 512;

export interface Wish {
  readonly text: string;
  readonly layer: number;
  readonly head: number;
  readonly thumbnails?: boolean;
  readonly tiles?: boolean;
  readonly row?: number | null;
  readonly block_m?: number;
  readonly block_n?: number;
}

export const tokensOf = (text: string): { id: number; text: string }[] =>
  (text.match(/\s?\S+/g) ?? []).map((word, id) => ({ id, text: word }));

/** Layer 5 has a sliding window. */
const windowOf = (layer: number): number => (layer === 5 ? WINDOW : 0);

const scoreOf = ({ layer, head }: Wish, query: number, key: number): number =>
  3 * Math.sin(query * 1.7 + key * (head + 1) + layer) + (key === 0 ? 2 : 0);

const seen = (query: number, key: number, window: number): boolean =>
  key <= query && (window === 0 || key > query - window);

function weightsOf(wish: Wish, count: number): number[][] {
  return Array.from({ length: count }, (_, query) => {
    const terms = Array.from({ length: query + 1 }, (_, key) =>
      seen(query, key, windowOf(wish.layer)) ? Math.exp(scoreOf(wish, query, key)) : 0,
    );
    const total = terms.reduce((sum, term) => sum + term, 0);
    return terms.map((term) => term / total);
  });
}

/** null: refused. */
export function lookedAt(wish: Wish): Attention | null {
  const tokens = tokensOf(wish.text);
  const count = tokens.length;
  if (count === 0 || count > MOST) return null;
  const weights = weightsOf(wish, count);
  const edge = Math.ceil(count / 256);
  const mass = massOf(weights);
  return {
    tokens,
    num_tokens: count,
    layer: wish.layer,
    head: wish.head,
    kv_head: Math.floor(wish.head / GROUP),
    group: GROUP,
    num_layers: LAYERS,
    num_heads: HEADS,
    num_kv_heads: HEADS / GROUP,
    head_dim: DIM,
    window: windowOf(wish.layer),
    backend: "flash",
    device: "cpu",
    dtype: "float32",
    difference: { head: 1.2e-7, layer: 2.4e-7 },
    matrix: pooled(weights, edge),
    top: weights.map((row) =>
      row
        .map((weight, key) => [key, weight] as [number, number])
        .filter(([, weight]) => weight > 0)
        .sort(([, a], [, b]) => b - a)
        .slice(0, 8),
    ),
    mass,
    first: weights.map((row) => row[0] ?? 0),
    costs: [...new Set([count, 1024, 4096, 16384, 65536])].sort((a, b) => a - b).map(costOf),
    ...(wish.thumbnails && { thumbnails: thumbnailsOf(count) }),
    ...(wish.tiles && { flash: flashOf(wish, count) }),
  };
}

function pooled(weights: number[][], edge: number): Attention["matrix"] {
  if (edge === 1) return { edge, max: weights, mean: null };
  const cells = Array.from({ length: Math.ceil(weights.length / edge) }, (_, row) => row);
  const tile = (row: number, column: number): number[] =>
    weights
      .slice(row * edge, (row + 1) * edge)
      .flatMap((line) => line.slice(column * edge, (column + 1) * edge));
  const triangle = (of: (numbers: number[]) => number): number[][] =>
    cells.map((row) => cells.slice(0, row + 1).map((column) => of(tile(row, column))));
  return {
    edge,
    max: triangle((numbers) => Math.max(...numbers)),
    mean: triangle((numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length),
  };
}

function massOf(weights: number[][]): Attention["mass"] {
  const starts = [0];
  for (let start = 1; start < weights.length; start *= 2) starts.push(start);
  const rows = weights.map((row, query) => {
    const shares = starts.map(() => 0);
    row.forEach((weight, key) => {
      const bucket = starts.filter((start) => start <= query - key).length - 1;
      shares[bucket] = (shares[bucket] ?? 0) + weight;
    });
    return shares;
  });
  const mean = starts.map((_, n) => rows.reduce((sum, row) => sum + (row[n] ?? 0), 0) / rows.length);
  return { starts, rows, mean };
}

const costOf = (length: number): Attention["costs"][number] => ({
  length,
  scores: length ** 2,
  head_bytes: 4 * length ** 2,
  layer_bytes: 4 * length ** 2 * HEADS,
  model_bytes: 4 * length ** 2 * HEADS * LAYERS,
  flash_bytes: 4 * length * (2 + DIM) * HEADS,
});

function thumbnailsOf(count: number): Thumbnails {
  const edge = Math.min(24, count);
  const bytes = (layer: number, head: number): string =>
    btoa(
      String.fromCharCode(
        ...Array.from({ length: edge * edge }, (_, cell) => {
          const [query, key] = [Math.floor(cell / edge), cell % edge];
          return key > query ? 0 : Math.round(255 * Math.abs(Math.sin(query + key * (head + 1) + layer)));
        }),
      ),
    );
  const grid = <T>(of: (layer: number, head: number) => T): T[][] =>
    Array.from({ length: LAYERS }, (_, layer) => Array.from({ length: HEADS }, (_, head) => of(layer, head)));
  return { edge, heads: grid(bytes), first: grid((layer, head) => ((layer + head) % 10) / 10) };
}

interface Line {
  peak: number;
  total: number;
  acc: number[];
}

function flashOf(wish: Wish, count: number): Flash {
  const even = Math.max(4, 2 ** Math.ceil(Math.log2(count / 8)));
  const [m, n] = [wish.block_m || even, wish.block_n || even];
  const row = wish.row ?? count - 1;
  const tiles: FlashTile[] = [];
  const course: FlashStep[] = [];
  const moved = { tiled: [] as number[], written: [] as number[] };
  let [tiled, written] = [0, 0];
  for (let first = 0; first < count; first += m) {
    const queries = [first, Math.min(first + m, count)] as const;
    const lines = Array.from({ length: queries[1] - first }, (): Line => newLine());
    for (let begin = 0; begin < count; begin += n) {
      const keys = [begin, Math.min(begin + n, count)] as const;
      const skipped = skippedBy(queries, keys, windowOf(wish.layer));
      const rescale = lines.map((line, at) => (skipped ? 1 : take(line, wish, first + at, keys)));
      if (begin === 0) [tiled, written] = [tiled + 2 * m * DIM * 4, written + 2 * m * DIM * 4];
      if (!skipped) tiled += 2 * n * DIM * 4;
      written += 16 * m * n;
      moved.tiled.push(tiled);
      moved.written.push(written);
      const state = {
        peak: lines.map(({ peak }) => (peak === -Infinity ? null : peak)),
        total: lines.map(({ total }) => total),
        rescale,
        norm: lines.map((line) => Math.hypot(...partial(line))),
      };
      tiles.push(skipped ? { queries, keys, skipped } : { queries, keys, skipped, ...state });
      const mine = lines[row - first];
      if (mine && row >= first)
        course.push({
          keys,
          skipped,
          peak: mine.peak === -Infinity ? null : mine.peak,
          total: mine.total,
          rescale: rescale[row - first] ?? 1,
          partial: partial(mine),
        });
    }
  }
  return {
    block_m: m,
    block_n: n,
    source: wish.block_m ? "chosen" : "even",
    kernel: null,
    tiles,
    bytes_tiled: moved.tiled,
    bytes_written: moved.written,
    row,
    course,
    error: 3.6e-7,
    error_to_backend: 4.1e-7,
  };
}

const newLine = (): Line => ({ peak: -Infinity, total: 0, acc: Array.from({ length: DIM }, () => 0) });
const partial = ({ total, acc }: Line): number[] => acc.map((value) => (total ? value / total : 0));
const valueOf = (key: number, at: number): number => Math.cos(key + at);

function skippedBy(
  [first, behind]: readonly [number, number],
  [begin, end]: readonly [number, number],
  window: number,
): FlashTile["skipped"] {
  if (begin >= behind) return "after";
  return window && end - 1 <= first - window ? "before" : "";
}

/** One step of online softmax; returns the correction. */
function take(line: Line, wish: Wish, query: number, [begin, end]: readonly [number, number]): number {
  const keys = Array.from({ length: end - begin }, (_, n) => begin + n).filter((key) =>
    seen(query, key, windowOf(wish.layer)),
  );
  if (keys.length === 0) return 1;
  const peak = Math.max(line.peak, ...keys.map((key) => scoreOf(wish, query, key)));
  const rescale = Math.exp(line.peak - peak);
  const terms = keys.map((key) => Math.exp(scoreOf(wish, query, key) - peak));
  line.total = line.total * rescale + terms.reduce((sum, term) => sum + term, 0);
  line.acc = line.acc.map(
    (value, at) =>
      value * rescale + keys.reduce((sum, key, n) => sum + (terms[n] ?? 0) * valueOf(key, at), 0),
  );
  line.peak = peak;
  return rescale;
}
