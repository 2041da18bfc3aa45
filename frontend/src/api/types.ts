// What the server says, as it says it.

import type { Answer } from "../data/answers";
import type { Kind } from "../data/provenance";
import type { Phase, RunFile } from "../data/runfile";

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
  | ({ readonly type: "run" } & RunAnswer)
  | { readonly type: "error"; readonly error: { readonly message: string } };

export interface ChatChunk {
  readonly choices: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly error?: { readonly message: string };
}
