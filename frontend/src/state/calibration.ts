// What each run's calibration is: asked of the server once, brought in a file, or embedded in an
// exported page. Fitting is the server's, so that page and command line cannot disagree.

import { signal } from "@preact/signals";
import { ApiError, calibrate, keyWanted, saying } from "../api/client";
import { checkCalibration, parseCalibration, type Calibration } from "../data/calibration";
import type { RunFile } from "../data/runfile";
import { offline } from "./server";

export interface Waiting {
  readonly waiting: true;
}

/** Why there is none: the words of the server, such as that the run has too few cells. */
export interface Failed {
  readonly failed: string;
}

type Outcome = Calibration | Failed;

const outcomes = signal<ReadonlyMap<string, Outcome>>(new Map());
const underway = new Map<string, Promise<void>>();

export const isCalibrated = (found: Calibration | Waiting | Failed | null): found is Calibration =>
  found !== null && "hardware" in found;

/**
 * The calibration of a run; null where there is nobody to ask.
 *
 * May be called while drawing: whoever read the answer is drawn again when it comes.
 */
export function calibrationOf(run: RunFile): Calibration | Waiting | Failed | null {
  const known = outcomes.value.get(run.id);
  if (known) return known;
  if (offline.value) return null;
  // Behind the drawing, which must change nothing that is drawn. Without a key there is no use.
  if (!keyWanted.value) queueMicrotask(() => void ask(run));
  return { waiting: true };
}

/** The same, waited for: what an exported page takes along. */
export async function settledCalibration(run: RunFile): Promise<Calibration | null> {
  if (!outcomes.peek().has(run.id) && !offline.peek()) await ask(run);
  const found = outcomes.peek().get(run.id) ?? null;
  return isCalibrated(found) ? found : null;
}

/** A calibration from a file or from the page's own data; it replaces what was known. */
export function keepCalibration(calibration: Calibration): void {
  settle(calibration.run, calibration);
}

/** From a file; throws a message for people if it cannot be read. */
export function importCalibration(text: string): Calibration {
  const calibration = parseCalibration(text);
  keepCalibration(calibration);
  return calibration;
}

function settle(run: string, outcome: Outcome): void {
  outcomes.value = new Map(outcomes.value).set(run, outcome);
}

/** One request for each run, however often it is asked for. */
function ask(run: RunFile): Promise<void> {
  if (outcomes.peek().has(run.id)) return Promise.resolve();
  const asked = underway.get(run.id) ?? fetchFor(run).finally(() => underway.delete(run.id));
  underway.set(run.id, asked);
  return asked;
}

async function fetchFor(run: RunFile): Promise<void> {
  try {
    const found = checkCalibration(await calibrate(run));
    if (!outcomes.peek().has(run.id)) settle(run.id, found);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return; // asked again when there is a key
    if (!outcomes.peek().has(run.id)) settle(run.id, { failed: saying(error) });
  }
}
