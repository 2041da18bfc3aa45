// The run file, schema 1: what `pellucid measure` writes and the server sends.

import { BadFile, count, list, number, oneOf, parse, record, show, text } from "./fields";

export const SCHEMA = 1;

export type Phase = "decode" | "prefill";
export const PHASES: readonly Phase[] = ["decode", "prefill"];

export interface Cell {
  readonly phase: Phase;
  readonly length: number;
  readonly batch: number;
  readonly num_steps: number;
  /** Plain runs, one a block: of a step when decoding, of the whole prompts in a prefill. */
  readonly wall_ns: readonly number[];
  readonly timed_wall_ns: readonly number[];
  readonly stages_ns: Readonly<Record<string, readonly number[]>>;
}

export interface Environment {
  readonly date: string;
  readonly commit: string;
  readonly cpu: string;
  readonly gpu?: string | null;
}

export interface RunFile {
  readonly schema: number;
  readonly id: string;
  readonly environment: Environment;
  /** `spec`: the model's shape; looked at where it is needed, as the fields below are. */
  readonly model: { readonly name: string; readonly spec?: unknown };
  readonly engine: {
    readonly device: string;
    readonly dtype: string;
    readonly switches: Readonly<Record<string, unknown>>;
  };
  readonly cells: readonly Cell[];
  readonly closure: number;
  readonly instrument_ratio: number;
  readonly interrupted: boolean;
  /** What the machine reached in the same run, per second. */
  readonly limits?: unknown;
  /** Sizes of what a step reads; `head_bytes`: the LM head's part of `weight_bytes`. */
  readonly weight_bytes?: number;
  readonly head_bytes?: number;
  readonly kv_bytes_per_token?: number;
}

export function parseRunFile(text: string): RunFile {
  return checkRunFile(parse(text));
}

/** The same object, known to hold what this page reads; anything more in it is kept. */
export function checkRunFile(value: unknown): RunFile {
  const run = record(value, "the file");
  if (run.schema !== SCHEMA) {
    throw new BadFile(
      `schema is ${show(run.schema)}; this page reads schema ${SCHEMA}, as \`pellucid measure\` writes it.`,
    );
  }
  text(run.id, "id");
  const environment = record(run.environment, "environment");
  for (const key of ["date", "commit", "cpu"]) text(environment[key], `environment.${key}`);
  text(record(run.model, "model").name, "model.name");
  const engine = record(run.engine, "engine");
  for (const key of ["device", "dtype"]) text(engine[key], `engine.${key}`);
  record(engine.switches, "engine.switches");
  for (const key of ["closure", "instrument_ratio"]) number(run[key], key);
  const cells = list(run.cells, "cells");
  if (cells.length === 0) throw new BadFile("cells is empty: the file holds no measurement.");
  cells.forEach(checkCell);
  return value as RunFile; // every field that the type names has been looked at
}

function checkCell(value: unknown, index: number): void {
  const at = `cells[${index}]`;
  const cell = record(value, at);
  oneOf(cell.phase, PHASES, `${at}.phase`);
  for (const key of ["length", "batch", "num_steps"]) count(cell[key], `${at}.${key}`);
  const blocks = times(cell.wall_ns, `${at}.wall_ns`);
  if (blocks === 0) throw new BadFile(`${at}.wall_ns is empty: no block was measured.`);
  times(cell.timed_wall_ns, `${at}.timed_wall_ns`);
  for (const [stage, values] of Object.entries(record(cell.stages_ns, `${at}.stages_ns`))) {
    const found = times(values, `${at}.stages_ns.${stage}`);
    if (found !== blocks) {
      throw new BadFile(`${at}.stages_ns.${stage} has ${found} blocks, wall_ns has ${blocks}.`);
    }
  }
}

function times(value: unknown, at: string): number {
  const values = list(value, at);
  values.forEach((time, index) => number(time, `${at}[${index}]`));
  return values.length;
}
