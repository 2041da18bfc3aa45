// One measurement at a time, from the button to the run.

import { signal } from "@preact/signals";
import { ApiError, isAbort, measure, saying } from "../api/client";
import type { MeasureEvent } from "../api/types";
import { phasesOf } from "../data/budget";
import { checkRunFile, type Phase } from "../data/runfile";
import { go, link } from "./navigation";
import { keep } from "./runs";
import { capabilities } from "./server";

export type Measuring =
  | { readonly state: "idle" }
  | {
      readonly state: "running";
      readonly seconds: number | null;
      readonly done: number;
      readonly total: number;
      readonly text: string;
    }
  | { readonly state: "busy"; readonly message: string }
  | { readonly state: "failed"; readonly message: string };

export const measuring = signal<Measuring>({ state: "idle" });
let controller = new AbortController();

export async function startMeasuring(force = false): Promise<void> {
  const known = capabilities.value;
  if (!known || measuring.value.state === "running") return;
  controller = new AbortController();
  measuring.value = { state: "running", seconds: null, done: 0, total: 0, text: "starting" };
  try {
    const settings = { ...known.measure, phases: phasesFor(known.measure.phases), force };
    for await (const event of measure(settings, controller.signal)) take(event);
    if (measuring.value.state === "running") throw new Error("The measurement ended without a result.");
  } catch (error) {
    measuring.value = isAbort(error) ? { state: "idle" } : refused(error);
  }
}

/** What the server proposes, unless the reader looks at something that it leaves out. */
function phasesFor(proposed: readonly Phase[]): readonly Phase[] {
  const { phase } = link.value;
  const wanted = phasesOf(phase);
  return wanted.every((one) => proposed.includes(one)) ? proposed : wanted;
}

/** Closing the connection is all it takes. */
export function cancelMeasuring(): void {
  controller.abort();
}

function refused(error: unknown): Measuring {
  const busy = error instanceof ApiError && error.status === 409;
  return { state: busy ? "busy" : "failed", message: saying(error) };
}

function take(event: MeasureEvent): void {
  const now = measuring.value;
  if (event.type === "estimate" && now.state === "running")
    measuring.value = { ...now, seconds: event.seconds };
  if (event.type === "progress" && now.state === "running") measuring.value = { ...now, ...event };
  if (event.type === "error") throw new Error(event.error.message);
  if (event.type === "run") {
    const run = checkRunFile(event.run);
    keep(run, "measured", event.answers);
    go({ a: run.id });
    measuring.value = { state: "idle" };
  }
}
