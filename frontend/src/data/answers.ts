// From what length on attention has a given share of a step, as the server works it out.

import type { Scope } from "./budget";
import type { Kind } from "./provenance";

export interface Crossing {
  readonly value: number | null;
  readonly lo: number | null;
  readonly hi: number | null;
  readonly kind: Kind;
  readonly status: string;
}

export interface Answer {
  /** Of a run one of its phases; of a curve a whole request too. */
  readonly phase: Scope;
  readonly batch: number;
  readonly s05: Crossing;
  readonly s10: Crossing;
  readonly s50: Crossing;
  readonly sentence: string;
}

export const LEVELS = [
  { key: "s05", share: 0.05, word: "visible" },
  { key: "s10", share: 0.1, word: "no longer negligible" },
  { key: "s50", share: 0.5, word: "dominant" },
] as const;

export type Level = (typeof LEVELS)[number]["key"];

/** The same answer read somewhere else or later: nothing in it was measured here. */
export function asRecorded(answer: Answer): Answer {
  const recorded = (crossing: Crossing): Crossing =>
    crossing.kind === "measured" ? { ...crossing, kind: "recorded" } : crossing;
  return { ...answer, s05: recorded(answer.s05), s10: recorded(answer.s10), s50: recorded(answer.s50) };
}
