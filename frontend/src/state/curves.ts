// Modelled curves: asked of the server for what is drawn, and with them all that is one switch away,
// so that the next picture is there before it is wanted.

import { signal } from "@preact/signals";
import { ApiError, curvesOf, keyWanted, saying } from "../api/client";
import type { Curve, Curves, CurvesBody } from "../api/types";
import { curveFor, holdsFor, type Switches } from "../data/curves";
import { isFailed, isWaiting, type Failed, type Waiting } from "./asked";
import { offline } from "./server";

/** Everything that is asked but the switches. */
export type Question = Omit<CurvesBody, "switches">;

/** An answer, and for which switches it was asked: what they carry along, the server says. */
export interface Kept {
  readonly question: Question;
  readonly switches: Switches;
  readonly curves: Curves;
}

/** A curve, and the answer that it came in. */
export interface Found {
  readonly curves: Curves;
  readonly curve: Curve;
}

/** With its question as text, and with that of question and switches: they are compared at every
 * drawing, dozens of times. */
interface Stored extends Kept {
  readonly about: string;
  readonly key: string;
}

const kept = signal<readonly Stored[]>([]);
const failures = signal<ReadonlyMap<string, string>>(new Map());
const underway = new Map<string, Promise<void>>();

/** Answers that are kept: the last ones. */
const MOST = 40;

const keyOf = (about: string, switches: Switches): string =>
  about + JSON.stringify(Object.entries(switches).sort());

/**
 * The curve of a setting, and the answer that it came in; asks for what is not there.
 *
 * May be called while drawing: whoever read it is drawn again when more is known. What is drawn is
 * always asked for as the middle of its own answer, which brings its neighbours and its band.
 */
export function curveOf(question: Question, switches: Switches): Found | Waiting | Failed | null {
  const about = JSON.stringify(question);
  const key = keyOf(about, switches);
  const answers = kept.value.filter((one) => one.about === about);
  const middle =
    answers.find((one) => one.key === key) ??
    answers.find(({ curves: { curves } }) => curves[0] && holdsFor(curves[0], switches));
  const asked = middle?.curves.curves[0];
  if (middle && asked) return { curves: middle.curves, curve: asked };
  const failed = failures.value.get(key);
  if (!offline.value && !keyWanted.value && failed === undefined)
    queueMicrotask(() => void ask(question, switches, key));
  const near = curveFor(
    answers.map(({ curves }) => curves),
    switches,
  );
  if (near) return { curves: near[0], curve: near[1] };
  if (offline.value) return null;
  return failed === undefined ? { waiting: true } : { failed };
}

export const isCurve = <T>(found: T | Waiting | Failed | null): found is T =>
  found !== null && !isFailed(found) && !isWaiting(found);

/** What an exported page takes along. */
export const answersKept = (): readonly Kept[] =>
  kept.peek().map(({ question, switches, curves }) => ({ question, switches, curves }));

export function keepCurves({ question, switches, curves }: Kept): void {
  const about = JSON.stringify(question);
  const one = { question, switches, curves, about, key: keyOf(about, switches) };
  kept.value = [one, ...kept.peek()].slice(0, MOST);
}

/** Until the curve of a setting is known, or why there is none: for what is saved. */
export async function settledCurve(question: Question, switches: Switches): Promise<void> {
  const found = curveOf(question, switches); // which asks for it
  if (isWaiting(found)) await ask(question, switches, keyOf(JSON.stringify(question), switches));
}

/** One request at a time for the same, however often it is asked for. */
function ask(question: Question, switches: Switches, key: string): Promise<void> {
  const asked = underway.get(key) ?? fetched(question, switches, key).finally(() => underway.delete(key));
  underway.set(key, asked);
  return asked;
}

async function fetched(question: Question, switches: Switches, key: string): Promise<void> {
  try {
    keepCurves({ question, switches, curves: await curvesOf({ ...question, switches }) });
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return; // asked again when there is a key
    failures.value = new Map(failures.value).set(key, saying(error));
  }
}
