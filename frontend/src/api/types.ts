// What the server says, as it says it.

import type { Answer } from "../data/answers";
import type { Scope } from "../data/budget";
import type { Kind } from "../data/provenance";
import type { Cell, Phase, RunFile } from "../data/runfile";

/** One that a switch can have, and why not on this machine; an empty reason: it can. */
export interface SwitchValue {
  readonly value: string;
  readonly why_not: string;
}

export interface Switch {
  readonly key: string;
  readonly choices: readonly string[];
  readonly default: string;
  readonly off: string;
  readonly current: string;
  /** The choices in their order; `current` too if it is none of them. */
  readonly values: readonly SwitchValue[];
  /** Why it came to `current` here. */
  readonly why: string;
  /** The server's option that sets it. */
  readonly flag: string;
  readonly about: string;
  readonly paper: string;
  readonly exactness: string;
}

/** What the engine is after a change, and how long it took to become that. */
export interface Switched {
  readonly switches: readonly Switch[];
  readonly engine: Capabilities["engine"];
  readonly seconds: number;
}

export interface MeasureSettings {
  readonly lengths: readonly number[];
  readonly phases: readonly Phase[];
  readonly batches: readonly number[];
  readonly blocks: number;
  readonly max_seconds: number;
  /** Whether pages may have it measure while nobody wants anything else. */
  readonly by_itself: boolean;
}

export interface Capabilities {
  readonly model: {
    readonly name: string;
    readonly spec: Readonly<Record<string, unknown>>;
    readonly weight_bytes: number;
    readonly kv_bytes_per_token: number;
    readonly context_length: number;
  };
  readonly engine: { readonly device: string; readonly dtype: string };
  readonly device: string;
  readonly switches: readonly Switch[];
  readonly measure: MeasureSettings;
}

/** A model's shape; the page reads a few of its fields, and sends all of them back. */
export type Spec = Readonly<Record<string, unknown>>;

/** Of the cost model: switches and sizes, as the server names them. */
export type Choices = Readonly<Record<string, string | number>>;

/** A machine of the cost model: its name, how far to trust it, and numbers. */
export interface Hardware extends Readonly<Record<string, string | number>> {
  readonly name: string;
  readonly kind: "calibrated" | "spec";
  readonly device: "cuda" | "cpu";
  readonly flop_s: number;
  readonly bytes_s: number;
  readonly fastest: number;
  readonly slowest: number;
}

/** Rates per second. */
export interface Limits {
  readonly flop_s: number;
  readonly bytes_s: number;
}

/** Kernels that are alike but for the number of their rows, all together. */
export interface Kernels {
  readonly kind: "matrix" | "attention" | "reduction" | "elementwise";
  /** Elements of one of the matrices; 0: none are multiplied. */
  readonly weights: number;
  readonly count: number;
  readonly flops: number;
  readonly bytes: number;
  readonly launches: number;
  /** Flops that one row, or one position a token, more would take. */
  readonly pad_flops: number;
}

/** What a run's cells made the machine do, and its roofs. */
export interface Counts {
  readonly run: string;
  readonly spec: Spec;
  readonly choices: Choices;
  readonly device: "cuda" | "cpu";
  /** Reached in the same run. */
  readonly limits: Limits;
  /** Of the maker; null: no sheet of this machine is known. */
  readonly sheet: Hardware | null;
  readonly cells: readonly {
    readonly phase: Phase;
    readonly length: number;
    readonly batch: number;
    readonly stages: Readonly<Record<string, readonly Kernels[]>>;
  }[];
}

/** What curves are asked of: a model, a machine, and what it computes there. */
export interface CurvesBody {
  readonly name: string;
  readonly spec?: Spec;
  readonly shape?: string;
  readonly config?: unknown;
  readonly hardware?: Hardware;
  readonly machine?: string;
  readonly choices: Choices;
  readonly packed: Choices;
  readonly switches: Readonly<Record<string, string>>;
  readonly scope: Scope;
  readonly batch: number;
  readonly num_outputs: number;
  readonly lengths: readonly number[];
}

/** Modelled seconds at some lengths, for one setting of the switches. */
export interface Curve {
  /** Which switch makes it another than the one that was asked for, and its value; empty: none. */
  readonly switch: string;
  readonly value: string;
  readonly switches: Readonly<Record<string, string>>;
  /** By length, then by stage. */
  readonly seconds: readonly (readonly number[])[];
  readonly answer: Answer;
}

export interface Curves {
  readonly model: string;
  readonly machine: string;
  readonly kind: "calibrated" | "spec";
  /** A stage may take so many times what is modelled, at least and at most. */
  readonly band: readonly [number, number];
  readonly scope: Scope;
  readonly batch: number;
  readonly num_outputs: number;
  readonly lengths: readonly number[];
  readonly stages: readonly string[];
  readonly curves: readonly Curve[];
  readonly not_modelled: readonly string[];
}

/** What curves can be asked of by name. */
export interface Known {
  readonly machines: readonly { readonly name: string; readonly title: string; readonly device: string }[];
  readonly shapes: readonly string[];
}

export interface RunEntry {
  readonly id: string;
  readonly date: string;
  readonly model: string;
  readonly device: string;
  readonly kind: Kind;
  readonly phases: readonly string[];
  /** What each switch was. */
  readonly switches: Readonly<Record<string, unknown>>;
}

export interface RunAnswer {
  readonly run: RunFile;
  readonly answers: readonly Answer[];
}

export type MeasureEvent =
  | { readonly type: "estimate"; readonly seconds: number }
  | { readonly type: "progress"; readonly done: number; readonly total: number; readonly text: string }
  | {
      readonly type: "cell";
      readonly done: number;
      readonly total: number;
      readonly text: string;
      /** All that has been measured of one cell so far. */
      readonly cell: Cell;
    }
  | ({ readonly type: "run"; readonly other: RunAnswer | null } & RunAnswer)
  | { readonly type: "error"; readonly error: { readonly message: string; readonly code?: string | null } };

export interface ChatChunk {
  readonly choices: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly error?: { readonly message: string };
}
