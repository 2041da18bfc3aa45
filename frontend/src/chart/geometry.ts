// Where everything in a budget chart lies, in CSS pixels. No drawing here.

import { extent, max } from "d3-array";
import { area, line, stack } from "d3-shape";
import type { Budget, Column, Measure } from "../data/budget";
import { OTHER, type Part } from "../data/stages";
import { linearScale, logScale, niceEnds, type LinearScale, type Scale } from "./scale";

export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Scales {
  readonly x: Scale;
  readonly y: LinearScale;
}

export interface Band {
  readonly part: Part;
  readonly area: string;
  readonly edge: string;
  /** Middle of the band at the right end, where its label belongs. */
  readonly middle: number;
  /** Nowhere any of it: a name beside it would point at nothing. */
  readonly empty: boolean;
}

const NARROW = 520;

export function frameOf(width: number): Frame {
  const narrow = width < NARROW;
  return {
    width,
    height: narrow ? 320 : 400,
    left: 56,
    right: width - (narrow ? 100 : 128),
    top: 20,
    bottom: (narrow ? 320 : 400) - 44,
  };
}

/** Scales that hold all the budgets, so that two charts can be compared. */
export function scalesOf(budgets: readonly Budget[], measure: Measure, frame: Frame): Scales {
  const columns = budgets.flatMap((budget) => budget.columns);
  const [least = 1, most = 1] = extent(columns, (column) => column.length);
  const domain = least === most ? ([least / 2, most * 2] as const) : ([least, most] as const);
  const highest = top(columns, measure);
  return {
    x: logScale(domain, [frame.left, frame.right]),
    y: linearScale(measure === "ms" ? niceEnds([0, highest], 4) : [0, highest], [frame.bottom, frame.top]),
  };
}

// Medians need not add up to the whole, so the whole is not where the axis has to end.
function top(columns: readonly Column[], measure: Measure): number {
  const highest = max(columns, (column) => {
    const amounts = [...column.amounts.values()].map((amount) => Math.max(0, amount[measure].value));
    return amounts.reduce((sum, value) => sum + value, 0);
  });
  return Math.max(measure === "share" ? 1 : 0, highest ?? 0);
}

/** Parts stacked from the axis up. A negative one (`other` can be) cuts into those below it. */
export function bandsOf(budget: Budget, measure: Measure, { x, y }: Scales): Band[] {
  const columns = widened(budget.columns, x);
  const value = (column: Column, key: string): number => column.amounts.get(key)?.[measure].value ?? 0;
  const series = stack<Column, string>()
    .keys(budget.parts.map((part) => part.key))
    .value(value)(columns);
  return series.flatMap((points, index) => {
    const part = budget.parts[index];
    const last = points.at(-1);
    if (!part || !last) return [];
    type Point = (typeof points)[number];
    const at = (point: Point): number => x(point.data.length);
    const fill = area<Point>(
      at,
      (point) => y(point[0]),
      (point) => y(point[1]),
    );
    const edge = line<Point>(at, (point) => y(point[1]));
    const empty = part.key !== OTHER && points.every((point) => point[0] === point[1]);
    return [
      { part, empty, area: fill(points) ?? "", edge: edge(points) ?? "", middle: y((last[0] + last[1]) / 2) },
    ];
  });
}

// A run of one length would be an area without width: it becomes a bar.
function widened(columns: readonly Column[], x: Scale): readonly Column[] {
  const [only] = columns;
  if (columns.length !== 1 || !only) return columns;
  return x.domain().map((length) => ({ ...only, length }));
}

/** Move labels apart so that each has `gap` pixels, in their order, within the frame. */
export function spread(wanted: readonly number[], gap: number, low: number, high: number): number[] {
  const order = wanted.map((_, index) => index).sort((a, b) => (wanted[a] ?? 0) - (wanted[b] ?? 0));
  const placed = wanted.map((value) => Math.min(Math.max(value, low), high));
  let floor = low - gap;
  for (const index of order) floor = placed[index] = Math.max(placed[index] ?? 0, floor + gap);
  let ceiling = high + gap;
  for (const index of order.reverse()) ceiling = placed[index] = Math.min(placed[index] ?? 0, ceiling - gap);
  return placed;
}

/** Powers of two within the domain, thinned until each has room. */
export function lengthTicks(x: Scale, room: number): number[] {
  const [least = 1, most = 1] = x.domain();
  const first = Math.ceil(Math.log2(least));
  const all = Array.from(
    { length: Math.floor(Math.log2(most)) - first + 1 },
    (_, index) => 2 ** (first + index),
  );
  const width = Math.abs((x.range()[1] ?? 0) - (x.range()[0] ?? 0));
  const every = Math.max(1, Math.ceil((all.length * room) / width));
  return all.filter((_, index) => (all.length - 1 - index) % every === 0);
}
