// From what length on attention stops being negligible, as far as it is modelled:
//
//     S_p = the least S with share ≥ p for it and all longer ones, up to a limit
//
// The twin of the part `Modelled` of src/pellucid/explore/crossover.py, which explains it. What was
// measured is answered by the server.

import { type Crossing as Answer, type Level, LEVELS } from "../data/answers";
import { type Budget, budget, type Hardware, secondsOf } from "./roofline";
import type { Choices, ModelSpec, Workload } from "./work";

export type { Answer, Level };

/** A length in tokens, null if there is none, and why. */
export interface Crossing {
  readonly value: number | null;
  readonly status: string;
}

export type Budgets = (length: number) => Budget;
type Share = (length: number) => number;

/** How finely the share is looked at for a dip behind the crossing. */
const STEPS_PER_OCTAVE = 4;

/** From a length to its budget; each is worked out once. */
export function budgetsOf(
  spec: ModelSpec,
  workload: Omit<Workload, "length">,
  choices: Choices,
  hardware: Hardware,
): Budgets {
  const known = new Map<number, Budget>();
  return (length) => {
    const found = known.get(length) ?? budget(spec, { ...workload, length }, choices, hardware);
    known.set(length, found);
    return found;
  };
}

/** The crossings of a modelled budget, by the keys of `LEVELS`; limit: tokens looked at. */
export function modelled(budgets: Budgets, hardware: Hardware, limit: number): Record<Level, Answer> {
  const { kind, fastest, slowest } = hardware;
  const likely = shareCurve(budgets, 1, 1);
  const early = shareCurve(budgets, slowest, fastest);
  const late = shareCurve(budgets, fastest, slowest);
  const answers = LEVELS.map(({ key, share }): [Level, Answer] => {
    const { value, status } = crossing(likely, share, limit);
    const lo = crossing(early, share, limit).value;
    const hi = crossing(late, share, limit).value;
    return [key, { value, lo, hi, kind, status }];
  });
  return Object.fromEntries(answers) as Record<Level, Answer>;
}

/** Attention's share if it took so many times what is modelled, and the rest so many times. */
export function shareCurve(budgets: Budgets, attention: number, rest: number): Share {
  return (length) => {
    const found = budgets(length);
    const mine = found.stages.attention.seconds;
    return (mine * attention) / (mine * attention + (secondsOf(found) - mine) * rest);
  };
}

/**
 * S_p of a function of integers.
 *
 * From the limit down, the first length of a grid whose share is below; behind it, the crossing.
 */
export function crossing(share: Share, part: number, limit: number): Crossing {
  let above: number | null = null;
  for (const length of grid(limit).reverse()) {
    if (share(length) < part) {
      return above === null
        ? { value: null, status: `never up to ${limit}` }
        : bisected(share, part, length, above);
    }
    above = length;
  }
  return { value: 1, status: "already at 1" };
}

/** 1 to `limit`, some steps an octave. */
export function grid(limit: number): number[] {
  const steps = new Set<number>();
  for (let i = 0; 2 ** (i / STEPS_PER_OCTAVE) <= limit; i++)
    steps.add(Math.round(2 ** (i / STEPS_PER_OCTAVE)));
  return [...steps.add(limit)].sort((a, b) => a - b);
}

/** The crossing between a length whose share is below `part` and a longer one's that is not. */
function bisected(share: Share, part: number, below: number, above: number): Crossing {
  let [lo, hi] = [below, above];
  while (hi - lo > 1) {
    const middle = Math.floor((lo + hi) / 2);
    if (share(middle) < part) lo = middle;
    else hi = middle;
  }
  return { value: hi, status: "found" };
}
