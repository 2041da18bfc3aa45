// The model of a run as a budget of the same form as what was measured, so that the same marks draw
// it and the same tables show it. Every figure comes with the model's band: a stage may take `fastest`
// to `slowest` times what is computed. A share is least where attention is as fast and the rest as slow
// as that allows, as for the band of a crossing.
//
// The model knows one stage for all that the host does, and no time that no stage claims.

import { Figure } from "../data/provenance";
import type { Budget, Column, Scope } from "../data/budget";
import { weightsOf } from "../data/request";
import type { Phase } from "../data/runfile";
import { OTHER, partOf, partsOf, type Detail } from "../data/stages";
import { grid } from "./crossover";
import { budget, MODELLED, type Hardware, type ModelledStage } from "./roofline";
import type { Choices, ModelSpec } from "./work";

/** What is modelled. */
export interface Machine {
  readonly spec: ModelSpec;
  readonly choices: Choices;
  readonly hardware: Hardware;
  /** Tokens that the model's context holds. */
  readonly limit: number;
}

export interface Question {
  readonly phase: Scope;
  readonly batch: number;
  /** Tokens that a whole request puts out. */
  readonly numOutputs: number;
}

const MS_PER_S = 1e3;

type Seconds = Readonly<Record<ModelledStage, number>>;

/** The lengths at which a curve through these is worked out: from the first to the context's end. */
export function lengthsFor(measured: readonly number[], { limit }: Machine, question: Question): number[] {
  const last = question.phase === "request" ? limit - question.numOutputs + 1 : limit;
  const first = Math.min(...measured);
  const between = last < 1 ? [] : grid(last).filter((length) => length > first);
  return [...new Set([...measured, ...between])].sort((a, b) => a - b);
}

/** The modelled budget at these lengths. */
export function curveOf(
  machine: Machine,
  question: Question,
  lengths: readonly number[],
  detail: Detail,
): Budget {
  const parts = partsOf(MODELLED, detail).filter(({ key }) => key !== OTHER);
  const secondsAt = secondsOf(machine, question);
  const columns = lengths.map((length): Column => {
    const seconds = secondsAt(length);
    const total = MODELLED.reduce((sum, stage) => sum + seconds[stage], 0);
    const amounts = parts.map(({ key }) => {
      const stages = MODELLED.filter((stage) => partOf(stage, detail) === key);
      const mine = stages.reduce((sum, stage) => sum + seconds[stage], 0);
      return [
        key,
        { ms: timed(mine, machine.hardware), share: shared(mine, total - mine, machine.hardware) },
      ] as const;
    });
    return { length, wall: timed(total, machine.hardware), amounts: new Map(amounts) };
  });
  return {
    phase: question.phase,
    batch: question.batch,
    kind: machine.hardware.kind,
    how: "",
    parts,
    columns,
  };
}

const timed = (seconds: number, { fastest, slowest, kind }: Hardware): Figure => {
  const ms = seconds * MS_PER_S;
  return Figure.modelled(ms, ms * fastest, ms * slowest, kind);
};

const shared = (mine: number, rest: number, { fastest, slowest, kind }: Hardware): Figure => {
  const share = (mineTakes: number, restTakes: number): number =>
    (mine * mineTakes) / (mine * mineTakes + rest * restTakes);
  return Figure.modelled(share(1, 1), share(fastest, slowest), share(slowest, fastest), kind);
};

/** From a length to the seconds of each stage. */
function secondsOf(machine: Machine, question: Question): (length: number) => Seconds {
  const { phase, batch } = question;
  return phase === "request"
    ? requestOf(machine, question)
    : (length) => phaseAt(machine, phase, batch, length);
}

function phaseAt({ spec, choices, hardware }: Machine, phase: Phase, batch: number, length: number): Seconds {
  const { stages } = budget(spec, { phase, batch, length, prefix: 0 }, choices, hardware);
  return inSeconds((stage) => stages[stage].seconds);
}

/** A prompt and its decode steps, which are worked out at some lengths and interpolated in between. */
function requestOf(machine: Machine, { batch, numOutputs }: Question): (length: number) => Seconds {
  const nodes = grid(machine.limit);
  const steps = nodes.map((length) => phaseAt(machine, "decode", batch, length));
  return (length) => {
    const prompt = phaseAt(machine, "prefill", batch, length);
    const weights = weightsOf(nodes, length + 1, length + numOutputs - 1);
    return inSeconds((stage) =>
      weights.reduce((sum, weight, index) => sum + weight * (steps[index]?.[stage] ?? 0), prompt[stage]),
    );
  };
}

const inSeconds = (of: (stage: ModelledStage) => number): Seconds =>
  Object.fromEntries(MODELLED.map((stage) => [stage, of(stage)])) as Record<ModelledStage, number>;
