// What stands beside or over each other in the Budget: a run, a setting that is modelled from it, and
// what was there before the last change.

import type { Curve, Curves } from "../api/types";
import type { Answer } from "../data/answers";
import { budgetOf, phasesOf, type Budget, type Loaded, type Scope } from "../data/budget";
import { budgetOfCurve, difference, type Switches } from "../data/curves";
import { requestOf } from "../data/request";
import type { RunFile } from "../data/runfile";
import { stopsOf, type Stop } from "../data/stops";
import { isFailed, isWaiting } from "./asked";
import { calibrations } from "./calibration";
import { counts } from "./counts";
import { curveOf, isCurve, settledCurve } from "./curves";
import { link } from "./navigation";
import { questionOf, runOf, textual, type Setting } from "./setting";

export interface Side {
  readonly name: "A" | "B";
  /** The run; of a setting that nobody measured, the one that it is modelled from. */
  readonly loaded: Loaded;
  /** Whether the budget is the run's own. */
  readonly isMeasured: boolean;
  /** What was or would be switched how. */
  readonly switches: Switches;
  readonly budget: Budget;
  /** The model over it; null: not asked for, or there is none. */
  readonly model: Budget | null;
  readonly stops: readonly Stop[];
  readonly answer: Answer | undefined;
}

/** Why there is nothing to draw. */
export interface Lacking {
  readonly lacking: string;
}

export const isSide = (found: Side | Lacking | null): found is Side => found !== null && "budget" in found;

/** What a setting looks like; null: the run has no cells of what is asked for. */
export function sideOf(name: Side["name"], setting: Setting): Side | Lacking | null {
  const run = runOf(setting);
  return (run && measuredSide(name, run)) ?? modelledSide(name, setting);
}

/**
 * Two settings, so that their difference means something: both measured, or both modelled. What was
 * measured and what was modelled differ by the model's error as well.
 */
export function pairOf(then: Setting, now: Setting): [Side, Side] | null {
  const both = [then, now].map((one) => {
    const run = runOf(one);
    return run && measuredSide("A", run);
  });
  const [before, after] = both.every(Boolean) ? both : [then, now].map((one) => modelledSide("A", one));
  return before && after && isSide(before) && isSide(after) ? [before, after] : null;
}

/** A run as it was measured. */
export function measuredSide(name: Side["name"], loaded: Loaded): Side | null {
  const { phase, batch, detail, output } = link.value;
  const budget =
    phase === "request" ? requestOf(loaded, batch, output, detail) : budgetOf(loaded, phase, batch, detail);
  if (!budget) return null;
  const model = modelOver(loaded, budget);
  return {
    name,
    loaded,
    isMeasured: true,
    switches: textual(loaded.run),
    budget,
    model,
    stops: stopsOf(budget, model),
    answer: answerOf(loaded),
  };
}

export function answerOf(loaded: Loaded | undefined): Answer | undefined {
  const { phase, batch } = link.value;
  return loaded?.answers.find((answer) => answer.phase === phase && answer.batch === batch);
}

/** The model of what a run measured; null where none is asked for or there is none. */
export function modelOver(loaded: Loaded, budget: Budget, detail = link.value.detail): Budget | null {
  if (link.value.model === "off") return null;
  const found = curveIn(asMeasured(loaded), budget.phase, budget.batch);
  if (!isCurve(found)) return null;
  const model = budgetOfCurve(found.curves, found.curve, detail);
  const least = budget.columns[0]?.length ?? 1;
  return { ...model, columns: model.columns.filter(({ length }) => length >= least) };
}

/** Waits for the model of all these, so that whoever writes them down leaves none out. */
export async function settledModels(loaded: Loaded, budgets: readonly Budget[]): Promise<void> {
  if (link.value.model === "off") return;
  await Promise.all([counts.settled(loaded.run), calibrations.settled(loaded.run)]);
  const own = asMeasured(loaded);
  const question = questionOf(own);
  if (question === null || isWaiting(question) || isFailed(question)) return;
  await Promise.all(
    budgets.map(({ phase: scope, batch }) => settledCurve({ ...question, scope, batch }, own.switches)),
  );
}

const asMeasured = (loaded: Loaded): Setting => ({
  loaded,
  machine: "",
  shape: "",
  switches: textual(loaded.run),
});

/** A setting that was not measured, as the cost model has it. */
function modelledSide(name: Side["name"], setting: Setting): Side | Lacking | null {
  if (!setting.machine && !wasFitted(setting.loaded.run, link.value.phase)) return null;
  const found = curveIn(setting, link.value.phase, link.value.batch);
  if (found === null) return { lacking: "There is no server to ask what these switches come to." };
  if (isWaiting(found)) return { lacking: "Working out what these switches come to …" };
  // Of a run that has these switches the page says what it lacks.
  if (isFailed(found) && runOf(setting)) return null;
  if (isFailed(found)) return { lacking: `These switches cannot be modelled: ${found.failed}` };
  const { curves, curve } = found;
  const how = difference(textual(setting.loaded.run), curve.switches);
  const elsewhere = Boolean(setting.machine || setting.shape);
  const trusted = { ...curves, kind: kindOf(curves, curve, setting) };
  const whole = budgetOfCurve(trusted, curve, link.value.detail, elsewhere ? "" : how);
  const first = elsewhere ? SHORTEST : firstOf(setting.loaded.run);
  const budget = { ...whole, columns: whole.columns.filter(({ length }) => length >= first) };
  const stops = stopsOf(budget, null);
  return {
    name,
    loaded: setting.loaded,
    isMeasured: false,
    switches: curve.switches,
    budget,
    model: null,
    stops,
    answer: curve.answer,
  };
}

/** Tokens from which on a curve is drawn that no run begins at. */
const SHORTEST = 16;

const firstOf = (run: RunFile): number => Math.min(...run.cells.map(({ length }) => length));

/** A machine that was fitted to steps of one phase alone knows nothing of the other. */
function wasFitted(run: RunFile, scope: Scope): boolean {
  return phasesOf(scope).every((phase) => run.cells.some((cell) => cell.phase === phase));
}

/**
 * How far to trust a curve. Without a KV cache a token is computed like a prompt, and of a machine that
 * was fitted to decode steps alone that was never checked.
 */
export function kindOf({ kind }: Curves, { switches }: Curve, { loaded, machine }: Setting): Curves["kind"] {
  const checked = machine || switches.kv_cache !== "off" || wasFitted(loaded.run, "prefill");
  return checked ? kind : "spec";
}

/** The curve of a setting, for the phase and batch that are looked at or for others. */
export function curveIn(setting: Setting, scope: Budget["phase"], batch: number): ReturnType<typeof curveOf> {
  const question = questionOf(setting);
  if (question === null || isWaiting(question) || isFailed(question)) return question;
  return curveOf({ ...question, scope, batch }, setting.switches);
}
