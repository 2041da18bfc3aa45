// The runs that the page holds, those that the server has, and which of them are shown.

import { computed, signal } from "@preact/signals";
import { answersFor, ApiError, getRun, getRuns, saying } from "../api/client";
import type { RunEntry } from "../api/types";
import { asRecorded, type Answer } from "../data/answers";
import type { Loaded } from "../data/budget";
import type { Kind } from "../data/provenance";
import { checkRunFile, parseRunFile, type RunFile } from "../data/runfile";
import { link } from "./navigation";

export const loaded = signal<ReadonlyMap<string, Loaded>>(new Map());
export const entries = signal<readonly RunEntry[]>([]);
/** Why a run that the address names cannot be shown, by its id. */
export const troubles = signal<ReadonlyMap<string, string>>(new Map());

/** The run shown: the one the address names and no other, or the one to begin with. */
export const idA = computed(() => link.value.a || begunWith(entries.value));

/** What was measured and is shown by now stays, whatever is measured besides: other switches of the same
 * engine are drawn from it, and a machine that was fitted to it is not fitted anew. */
let shownFirst = "";

function begunWith(known: readonly RunEntry[]): string {
  const still = known.some(({ id, kind }) => id === shownFirst && kind === "measured");
  if (!still) shownFirst = first(known);
  return shownFirst;
}
export const runA = computed(() => loaded.value.get(idA.value));
export const runB = computed(() => (link.value.b ? loaded.value.get(link.value.b) : undefined));

/**
 * The latest that was measured on this machine; failing that the first in the list: what was imported
 * last, else the recorded run that the server puts first, as the nearest to its model and machine.
 */
export function first(known: readonly RunEntry[]): string {
  const measured = known.filter(({ kind }) => kind === "measured");
  const latest = measured.reduce<RunEntry | undefined>(
    (best, entry) => (best && best.date >= entry.date ? best : entry),
    undefined,
  );
  return (latest ?? known[0])?.id ?? "";
}

export function keep(run: RunFile, kind: Kind, answers: readonly Answer[]): void {
  loaded.value = new Map(loaded.value).set(run.id, { run, kind, answers });
  if (entries.value.some((entry) => entry.id === run.id)) return;
  entries.value = [entryOf(run, kind), ...entries.value];
}

/** What was measured; a machine with a GPU can have been measured on its CPU. */
export function deviceOf({ engine, environment }: RunFile): string {
  return (engine.device.startsWith("cuda") && environment.gpu) || environment.cpu;
}

function entryOf(run: RunFile, kind: Kind): RunEntry {
  const phases = [...new Set(run.cells.map(({ phase }) => phase))];
  const { date } = run.environment;
  const { switches } = run.engine;
  return { id: run.id, date, model: run.model.name, device: deviceOf(run), kind, phases, switches };
}

export async function listRuns(): Promise<void> {
  const { runs } = await getRuns();
  const ours = entries.value.filter((entry) => !runs.some(({ id }) => id === entry.id));
  entries.value = [...ours, ...runs];
}

const underway = new Set<string>();

/** Get a run that is not here yet. What the server lacks is said, not replaced by something else. */
export async function load(id: string): Promise<void> {
  if (!id || loaded.value.has(id) || troubles.value.has(id) || underway.has(id)) return;
  underway.add(id);
  try {
    const { run, answers } = await getRun(id);
    const kind = entries.value.find((entry) => entry.id === id)?.kind ?? "recorded";
    keep(checkRunFile(run), kind, answers);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return; // asked again when there is a key
    const lacking = error instanceof ApiError && error.status === 404;
    const why = lacking ? "this server does not have it; import its file" : saying(error);
    troubles.value = new Map(troubles.value).set(id, why);
  } finally {
    underway.delete(id);
  }
}

/** A run file from somewhere else; throws a message for people if it cannot be read. */
export async function importText(text: string): Promise<RunFile> {
  const run = parseRunFile(text);
  if (loaded.value.has(run.id)) return run; // the same content, and where it came from is known better
  const answers = await answersFor(run);
  keep(run, "recorded", answers.map(asRecorded));
  const rest = new Map(troubles.value);
  rest.delete(run.id);
  troubles.value = rest;
  return run;
}
