// What a calibrated model has to reach within the measured range, and whether it does. The goals were
// set before the figures were known, and are shown whichever way these fall.

export const STAGE_GOAL = 0.15;
export const SHARE_GOAL_POINTS = 5;
export const CROSSOVER_GOAL = 1.25;

export type Verdict = "met" | "not met";

export const verdict = (value: number, goal: number): Verdict => (value <= goal ? "met" : "not met");

/** A ratio of a half is as far off as one of two. */
export const farness = (ratio: number): number => Math.max(ratio, 1 / ratio);
