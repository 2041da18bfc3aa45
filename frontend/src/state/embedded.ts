// An exported file carries its runs in itself. If this page is one, they are here.

import type { Loaded } from "../data/budget";
import type { Calibration } from "../data/calibration";
import { keepCalibration } from "./calibration";
import { decode } from "./link";
import { link } from "./navigation";
import { keep } from "./runs";
import { offline } from "./server";

export const DATA_ID = "pellucid-data";

export interface Embedded {
  readonly runs: readonly Loaded[];
  /** Of those runs that have one. */
  readonly calibrations: readonly Calibration[];
  readonly hash: string;
}

/** Whether there was something to open. */
export function openEmbedded(): boolean {
  const text = document.getElementById(DATA_ID)?.textContent;
  if (!text) return false;
  const { runs, calibrations, hash } = JSON.parse(text) as Embedded; // written by this same program
  for (const { run, kind, answers } of runs) keep(run, kind, answers);
  calibrations.forEach(keepCalibration);
  if (!location.hash) link.value = decode(hash);
  offline.value = true;
  return true;
}
