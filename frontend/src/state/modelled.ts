// The modelled budget that lies over a measured one, where the reader asks for it and the run has a
// calibration.

import type { Budget, Loaded } from "../data/budget";
import type { RunFile } from "../data/runfile";
import type { Detail } from "../data/stages";
import { stopsOf } from "../data/stops";
import { curveOf, lengthsFor, type Question } from "../model/curve";
import type { Hardware } from "../model/roofline";
import { link } from "./navigation";
import { calibratedSubject, isSubject } from "./subject";

/** Worked out once for each machine and question; a machine that is gone takes its curves along. */
const known = new WeakMap<Hardware, Map<string, Budget>>();

/** The model of what `budget` measured; null where none is asked for or there is none. */
export function modelOf({ run }: Loaded, budget: Budget, detail: Detail): Budget | null {
  if (link.value.model === "off") return null;
  const question = { phase: budget.phase, batch: budget.batch, numOutputs: link.value.output };
  const lengths = budget.columns.map(({ length }) => length);
  return curve(run, question, lengths, detail);
}

/** All that is modelled of a run beside its cells, at the lengths where the cursor would rest. */
export function modelsOf(loaded: Loaded, budgets: readonly Budget[]): Budget[] {
  return budgets.flatMap((budget) => {
    const model = modelOf(loaded, budget, "stages");
    const columns = model && stopsOf(budget, model).flatMap(({ modelled }) => modelled ?? []);
    return model && columns ? [{ ...model, columns }] : [];
  });
}

/** Why there is no curve though one is asked for; empty if there is one. */
export function whyNot(run: RunFile): string {
  const found = calibratedSubject(run);
  if (isSubject(found)) return "";
  return "waiting" in found ? "the machine is being fitted to it …" : found.why;
}

function curve(run: RunFile, question: Question, lengths: readonly number[], detail: Detail): Budget | null {
  const machine = calibratedSubject(run);
  if (!isSubject(machine) || lengths.length === 0) return null;
  const curves = known.get(machine.hardware) ?? new Map<string, Budget>();
  known.set(machine.hardware, curves);
  const key = JSON.stringify([run.id, question, lengths, detail]);
  const found = curves.get(key) ?? curveOf(machine, question, lengthsFor(lengths, machine, question), detail);
  curves.set(key, found);
  return found;
}
