// A plane with two logarithmic axes, in CSS pixels. No drawing here.

import type { Frame } from "./geometry";
import { logScale, type Ends, type Scale } from "./scale";

export interface Plane {
  readonly x: Scale;
  readonly y: Scale;
}

export function planeOf(x: Ends, y: Ends, frame: Frame): Plane {
  return {
    x: logScale(x, [frame.left, frame.right]),
    y: logScale(y, [frame.bottom, frame.top]),
  };
}

const MANY_DECADES = 2;

/** Powers of ten within a scale; where these are few, 2 and 5 times them as well. */
export function powers(scale: Scale): number[] {
  const [least = 1, most = 1] = scale.domain();
  const count = Math.log10(most / least);
  const digits = count > MANY_DECADES ? [1] : [1, 2, 5];
  const first = Math.floor(Math.log10(least));
  const all = Array.from({ length: Math.ceil(count) + 2 }, (_, index) => 10 ** (first + index));
  return all
    .flatMap((power) => digits.map((digit) => Number((digit * power).toPrecision(3))))
    .filter((value) => value >= least && value <= most);
}

export interface Place {
  readonly x: number;
  readonly y: number;
}

/** Heights for labels beside points, apart from each other where their points are close. */
export function beside(
  points: readonly Place[],
  width: number,
  gap: number,
  low: number,
  high: number,
): number[] {
  const heights = points.map(({ y }) => y);
  const order = points.map((_, index) => index).sort((a, b) => (heights[a] ?? 0) - (heights[b] ?? 0));
  // From the top down, each below those that its text would run into; then pushed up from the bottom.
  const near = (a: number, b: number): boolean => Math.abs((points[a]?.x ?? 0) - (points[b]?.x ?? 0)) < width;
  const settle = (sequence: readonly number[], push: (own: number, other: number) => number): void => {
    sequence.forEach((index, rank) => {
      for (const other of sequence.slice(0, rank))
        if (near(index, other)) heights[index] = push(heights[index] ?? 0, heights[other] ?? 0);
    });
  };
  for (const index of order) heights[index] = Math.min(Math.max(heights[index] ?? 0, low), high);
  settle(order, (own, other) => Math.max(own, other + gap));
  for (const index of order) heights[index] = Math.min(heights[index] ?? 0, high);
  settle([...order].reverse(), (own, other) => Math.min(own, other - gap));
  return heights;
}
