// What each switch does to S10 in the model of the shown run, for decode steps and for prompts.

import { computed } from "@preact/signals";
import type { Kind } from "../data/provenance";
import { PHASES, type Phase } from "../data/runfile";
import { budgetsOf, type Crossing } from "../model/crossover";
import { effects, isModelled, type Effect } from "../model/switches";
import { link } from "./navigation";
import { runA } from "./runs";
import { isSubject, subjectOf, type Subject } from "./subject";

/** S10 of a phase as the run was, and without each switch that was on. */
export interface PhaseEffects {
  readonly phase: Phase;
  readonly here: Crossing;
  readonly found: Readonly<Record<string, Effect>>;
}

export interface Effects {
  readonly kind: Kind;
  readonly machine: string;
  readonly batch: number;
  /** Those that the machine was fitted to; of a data sheet, all. */
  readonly phases: readonly PhaseEffects[];
  readonly isModelled: (key: string) => boolean;
}

const batch = computed(() => link.value.batch); // so that nothing else in the address matters

/** Worked out when it is looked at, once for each run, machine and batch. */
export const effectsShown = computed<Effects | { readonly waiting: true } | { readonly why: string }>(() => {
  const run = runA.value?.run;
  if (!run) return { why: "no run is shown" };
  const subject = subjectOf(run);
  if (!isSubject(subject)) return subject;
  // What was fitted to steps of one phase alone knows nothing of the other.
  const measured = (phase: Phase): boolean => run.cells.some((cell) => cell.phase === phase);
  const known = PHASES.filter((phase) => subject.hardware.kind === "spec" || measured(phase));
  return effectsIn(subject, batch.value, known);
});

function effectsIn(
  { spec, choices, hardware, limit }: Subject,
  sequences: number,
  known: readonly Phase[],
): Effects {
  return {
    kind: hardware.kind,
    machine: hardware.name,
    batch: sequences,
    phases: known.map((phase) => ({
      phase,
      ...effects(
        (these) => budgetsOf(spec, { phase, batch: sequences, prefix: 0 }, these, hardware),
        choices,
        limit,
      ),
    })),
    isModelled: (key) => isModelled(key, choices),
  };
}
