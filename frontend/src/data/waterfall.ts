// From one run's wall time to another's, part by part: what each part adds or saves.
//
// A part that a run lacks took no time there. Parts add up to the whole in either run, so the last step
// ends where it should.

import type { Column } from "./budget";
import { Figure } from "./provenance";
import { eitherOf, type Part } from "./stages";

export interface Step {
  readonly part: Part;
  /** Milliseconds in either run; undefined: the run has no such part. */
  readonly one: Figure | undefined;
  readonly two: Figure | undefined;
  readonly change: Figure;
  /** Where the step begins and ends on the way, in milliseconds. */
  readonly from: number;
  readonly to: number;
}

export interface Waterfall {
  readonly start: Figure;
  readonly end: Figure;
  readonly change: Figure;
  readonly steps: readonly Step[];
}

/** first, second: the parts of either run, in the order in which they are stacked. */
export function waterfallOf(
  [first, second]: readonly [readonly Part[], readonly Part[]],
  [a, b]: readonly [Column, Column],
): Waterfall {
  const change = Figure.difference(b.wall, a.wall);
  const steps: Step[] = [];
  let at = a.wall.value;
  const add = (step: Omit<Step, "from" | "to">): void => {
    steps.push({ ...step, from: at, to: (at += step.change.value) });
  };
  for (const part of eitherOf(first, second)) {
    const [one, two] = [a, b].map((column) => column.amounts.get(part.key)?.ms);
    const any = one ?? two;
    if (any) add({ part, one, two, change: Figure.difference(two ?? none(any), one ?? none(any)) });
  }
  return { start: a.wall, end: b.wall, change, steps };
}

/** No time, seen as often as `like` was. */
const none = ({ n, kind }: Figure): Figure => {
  if (n === 0) return Figure.modelled(0, 0, 0, kind);
  return Figure.median(
    Array.from({ length: n }, () => 0),
    kind,
  );
};
