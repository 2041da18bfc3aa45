// One measurement at a time, from the button to the run; or by itself, while nobody wants anything.

import { signal } from "@preact/signals";
import { ApiError, isAbort, measure, saying, type MeasureWish } from "../api/client";
import type { MeasureEvent } from "../api/types";
import { checkRunFile, type Cell, type Phase, PHASES } from "../data/runfile";
import { go, link } from "./navigation";
import { keep } from "./runs";
import { capabilities } from "./server";

export type Measuring =
  | { readonly state: "idle" }
  | {
      readonly state: "running";
      /** Nobody asked for it: it gives way to whatever anybody asks for. */
      readonly byItself: boolean;
      readonly seconds: number | null;
      readonly done: number;
      readonly total: number;
      readonly text: string;
    }
  | { readonly state: "busy"; readonly message: string }
  | { readonly state: "failed"; readonly message: string };

export const measuring = signal<Measuring>({ state: "idle" });
/** What the present measurement has found so far. */
export const cellsSoFar = signal<readonly Cell[]>([]);
/** Somebody has stopped one that went on by itself: none begins any more while the page is open. */
export const declined = signal(false);
let controller = new AbortController();

/** The engine was wanted for something else. */
class GaveWay extends Error {}

/** Whether a measurement has the engine to itself. */
export const isEngaged = (): boolean => measuring.value.state === "running" && !measuring.value.byItself;

export async function startMeasuring(wish: MeasureWish = {}): Promise<void> {
  const known = capabilities.value;
  if (!known || isEngaged()) return;
  controller.abort(); // one that gives way
  const mine = (controller = new AbortController());
  const byItself = wish.background ?? false;
  measuring.value = { state: "running", byItself, seconds: null, done: 0, total: 0, text: "starting" };
  cellsSoFar.value = [];
  const { by_itself: _, ...proposed } = known.measure;
  try {
    const settings = { ...proposed, phases: phasesFor(proposed.phases), ...wish };
    for await (const event of measure(settings, mine.signal)) if (mine === controller) take(event);
    if (mine === controller && measuring.value.state === "running")
      throw new Error("The measurement ended without a result.");
  } catch (error) {
    if (mine === controller)
      measuring.value = isAbort(error) || byItself ? { state: "idle" } : refused(error);
  } finally {
    if (mine === controller) cellsSoFar.value = [];
  }
}

/** What the server proposes, unless the reader looks at something that it leaves out. */
function phasesFor(proposed: readonly Phase[]): readonly Phase[] {
  const { phase } = link.value;
  const wanted = phase === "request" ? PHASES : [phase];
  return wanted.every((one) => proposed.includes(one)) ? proposed : wanted;
}

/** Closing the connection is all it takes. */
export function cancelMeasuring(): void {
  if (!isEngaged()) declined.value = true;
  controller.abort();
}

function refused(error: unknown): Measuring {
  const busy = error instanceof ApiError && error.status === 409;
  return { state: busy ? "busy" : "failed", message: saying(error) };
}

function take(event: MeasureEvent): void {
  const now = measuring.value;
  if (now.state !== "running") return;
  if (event.type === "estimate") measuring.value = { ...now, seconds: event.seconds };
  if (event.type === "progress" || event.type === "cell")
    measuring.value = { ...now, done: event.done, total: event.total, text: event.text };
  if (event.type === "cell") cellsSoFar.value = [...others(event.cell), event.cell];
  if (event.type === "error")
    throw event.error.code === "gave_way" ? new GaveWay(event.error.message) : new Error(event.error.message);
  if (event.type === "run") {
    if (event.other) keep(checkRunFile(event.other.run), "measured", event.other.answers);
    const run = checkRunFile(event.run);
    keep(run, "measured", event.answers);
    // Whoever asked for it wants to see it; otherwise what is looked at stays, if it was chosen.
    if (!now.byItself) go({ a: run.id });
    measuring.value = { state: "idle" };
  }
}

const others = ({ phase, length, batch }: Cell): Cell[] =>
  cellsSoFar.value.filter((one) => one.phase !== phase || one.length !== length || one.batch !== batch);
