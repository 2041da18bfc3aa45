// Where a matrix of weights lies, and its cells as a few paths: one for each level, so that 32,000
// cells are a dozen marks. No drawing here.

import { firstSeen, type Triangle } from "../data/attention";
import type { Theme } from "../state/theme";

export const LEVELS = 12;
/** A weight below this is not drawn. */
const LEAST = 0.002;

/** 0: not drawn; LEVELS: all of the weight. Small weights get more levels, as most are small. */
export const levelOf = (weight: number): number =>
  weight < LEAST ? 0 : Math.min(LEVELS, Math.max(1, Math.round(LEVELS * Math.sqrt(weight))));

const RAMPS: Record<Theme, readonly [string, string]> = {
  light: ["#fbe9e2", "#7d210b"],
  dark: ["#33231f", "#ffb597"],
};
/** In the middle of the ramp, so that colours stay clean on their way. */
const MIDDLE: Record<Theme, string> = { light: "#d8734f", dark: "#c25a37" };

export function colorOf(level: number, theme: Theme): string {
  const [least, most] = RAMPS[theme];
  const part = (level - 1) / (LEVELS - 1);
  return part < 0.5 ? mixed(least, MIDDLE[theme], part * 2) : mixed(MIDDLE[theme], most, part * 2 - 1);
}

function mixed(from: string, to: string, part: number): string {
  const at = (color: string, channel: number): number =>
    parseInt(color.slice(1 + 2 * channel, 3 + 2 * channel), 16);
  const channels = [0, 1, 2].map((n) => Math.round(at(from, n) + (at(to, n) - at(from, n)) * part));
  return `#${channels.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

export interface Place {
  readonly left: number;
  readonly top: number;
  /** Pixels of a cell's edge. */
  readonly cell: number;
}

/** Of each level that occurs the cells, neighbours in a row as one rectangle. */
export function pathsOf(cells: Triangle, { left, top, cell }: Place): { level: number; path: string }[] {
  const paths = new Map<number, string>();
  cells.forEach((row, y) => {
    for (let x = 0; x < row.length; ) {
      const level = levelOf(row[x] ?? 0);
      let end = x + 1;
      while (end < row.length && levelOf(row[end] ?? 0) === level) end += 1;
      if (level > 0) {
        const width = round((end - x) * cell);
        const mark = `M${round(left + x * cell)} ${round(top + y * cell)}h${width}v${round(cell)}h${-width}z`;
        paths.set(level, (paths.get(level) ?? "") + mark);
      }
      x = end;
    }
  });
  return [...paths].sort(([a], [b]) => a - b).map(([level, path]) => ({ level, path }));
}

/** What nobody sees: above the diagonal, and before a sliding window of so many tokens. */
export function unseenPath(count: number, edge: number, window: number, { left, top, cell }: Place): string {
  let path = "";
  for (let y = 0; y < count; y += 1) {
    const [x0, y0] = [round(left), round(top + y * cell)];
    const rectangle = (from: number, to: number): string =>
      `M${round(x0 + from * cell)} ${y0}H${round(x0 + to * cell)}v${round(cell)}H${round(x0 + from * cell)}z`;
    const before = Math.floor(firstSeen(y * edge, window) / edge);
    if (before > 0) path += rectangle(0, before);
    if (y + 1 < count) path += rectangle(y + 1, count);
  }
  return path;
}

const round = (value: number): number => Math.round(value * 100) / 100;
