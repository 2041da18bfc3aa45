// An exported file carries its runs in itself. If this page is one, they are here.

import type { Loaded } from "../data/budget";
import type { Counts } from "../api/types";
import type { Calibration } from "../data/calibration";
import { calibrations } from "./calibration";
import { counts } from "./counts";
import { keepCurves, type Kept } from "./curves";
import { decode } from "./link";
import { link } from "./navigation";
import { keep } from "./runs";
import { offline } from "./server";

export const DATA_ID = "pellucid-data";

export interface Embedded {
  readonly runs: readonly Loaded[];
  /** Of those runs that have one. */
  readonly calibrations: readonly Calibration[];
  readonly counts: readonly Counts[];
  /** What the cost model answered while the page was looked at. */
  readonly curves: readonly Kept[];
  readonly hash: string;
}

/** Whether there was something to open. */
export function openEmbedded(): boolean {
  const text = document.getElementById(DATA_ID)?.textContent;
  if (!text) return false;
  const data = JSON.parse(text) as Embedded; // written by this same program
  for (const { run, kind, answers } of data.runs) keep(run, kind, answers);
  for (const fit of data.calibrations) calibrations.keep(fit.run, fit);
  for (const counted of data.counts) counts.keep(counted.run, counted);
  [...data.curves].reverse().forEach(keepCurves);
  if (!location.hash) link.value = decode(data.hash);
  offline.value = true;
  return true;
}
