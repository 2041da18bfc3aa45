// The walk over tiles as steps that a reader can take. No drawing here.

import { inBytes, type Attention, type Flash, type FlashTile } from "./attention";
import { tokens } from "./words";

export interface Visit {
  /** Its place among all tiles, the skipped ones too. */
  readonly index: number;
  readonly tile: FlashTile;
}

/** The tiles that are computed, in their order: what a kernel visits. */
export const visitsOf = ({ tiles }: Flash): Visit[] =>
  tiles.flatMap((tile, index) => (tile.skipped ? [] : [{ index, tile }]));

/** The first step of the tile of queries that holds this one. */
export const stepOf = (visits: readonly Visit[], row: number): number =>
  Math.max(
    0,
    visits.findIndex(({ tile }) => holds(tile, row)),
  );

export const holds = ({ queries }: FlashTile, row: number): boolean => row >= queries[0] && row < queries[1];

/** [16, 32] → "17–32": tokens are counted from 1, and both ends are in. */
export const span = ([first, behind]: readonly [number, number]): string =>
  behind - first === 1 ? tokens(behind) : `${tokens(first + 1)}–${tokens(behind)}`;

/** How many tiles are skipped, by reason. */
export function skippedOf({ tiles }: Flash): { after: number; before: number } {
  const count = (why: string): number => tiles.filter(({ skipped }) => skipped === why).length;
  return { after: count("after"), before: count("before") };
}

/** What happens in this step to the chosen query; where it is elsewhere, to the last one of the tile. */
export function told({ tiles, row }: Flash, { index, tile }: Visit): string {
  const query = holds(tile, row) ? row : tile.queries[1] - 1;
  const line = query - tile.queries[0];
  const earlier = tiles[index - 1];
  const before = earlier?.queries[0] === tile.queries[0] ? (earlier.peak?.[line] ?? null) : null;
  const now = tile.peak?.[line] ?? null;
  const place = `Queries ${span(tile.queries)} meet keys ${span(tile.keys)}.`;
  const who = `query ${tokens(query + 1)}`;
  if (now === null) return `${place} Query ${tokens(query + 1)} sees none of these keys.`;
  const peak = fixed(now);
  if (before === null)
    return `${place} The largest score of ${who} is ${peak}; there was nothing before it to correct.`;
  const rescale = tile.rescale?.[line] ?? 1;
  if (rescale >= 1)
    return `${place} No score of ${who} is above its peak of ${peak}: what was summed stays as it is.`;
  return `${place} The peak of ${who} rises from ${fixed(before)} to ${peak}: what was summed before is multiplied by exp(${fixed(before)} − ${peak}) = ${figure(rescale)}.`;
}

/** Which way moves less in the end, and why it may be the other one. */
export function verdict({ bytes_tiled, bytes_written, block_m }: Flash): string {
  const [tiled, written] = [bytes_tiled.at(-1) ?? 0, bytes_written.at(-1) ?? 0];
  const figures = `In the end ${inBytes(tiled)} in tiles, ${inBytes(written)} written out.`;
  if (tiled <= written)
    return `${figures} That is ${(written / Math.max(tiled, 1)).toFixed(1)} times as much.`;
  return `${figures} Tiles of ${block_m} queries are too small to pay: every tile of queries reads all its keys again. Kernels take a hundred or more.`;
}

/** "12.3 kB in tiles, 45.6 kB written out". */
export const movedAt = ({ bytes_tiled, bytes_written }: Flash, index: number): string =>
  `${inBytes(bytes_tiled[index] ?? 0)} in tiles, ${inBytes(bytes_written[index] ?? 0)} written out`;

/** Four significant digits, with a true minus. */
export const figure = (value: number): string => {
  const text = value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential(2) : value.toPrecision(4);
  return text.replaceAll("-", "−");
};

/** With so many decimals, a true minus, and one zero. */
export function fixed(value: number, decimals = 2): string {
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** Where the tile's size comes from. */
export function sizeWords({
  flash,
  backend,
  device,
  group,
}: Pick<Attention, "backend" | "device" | "group"> & { flash: Flash }): string {
  const size = `${flash.block_m} queries by ${flash.block_n} keys`;
  if (flash.source === "kernel")
    return `${size}: as the kernel that ran has it (${flash.kernel?.lines} lines of ${group} heads that share a KV head).`;
  const kernel = flash.kernel
    ? `the kernel that ran takes ${flash.kernel.queries} by ${flash.kernel.keys}`
    : `${backend} on ${device} does not say which tiles it takes`;
  return `${size}: ${flash.source === "chosen" ? "your choice" : "about eight along an edge"}; ${kernel}.`;
}
