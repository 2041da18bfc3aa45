// The run file, schema 1: what `pellucid measure` writes and the server sends. A file that does not
// fit is refused with the name of the field that is wrong and what was expected there.

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
  readonly model: { readonly name: string };
  readonly engine: {
    readonly device: string;
    readonly dtype: string;
    readonly weights: string;
    readonly switches: Readonly<Record<string, unknown>>;
  };
  readonly cells: readonly Cell[];
  readonly closure: number;
  readonly instrument_ratio: number;
  readonly interrupted: boolean;
}

export class BadRunFile extends Error {}

export function parseRunFile(text: string): RunFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new BadRunFile(`This is not JSON (${String(error instanceof Error ? error.message : error)}).`);
  }
  return checkRunFile(value);
}

/** The same object, known to hold what this page reads; anything more in it is kept. */
export function checkRunFile(value: unknown): RunFile {
  const run = record(value, "the file");
  if (run.schema !== SCHEMA) {
    throw new BadRunFile(
      `schema is ${show(run.schema)}; this page reads schema ${SCHEMA}, as \`pellucid measure\` writes it.`,
    );
  }
  text(run.id, "id");
  const environment = record(run.environment, "environment");
  for (const key of ["date", "commit", "cpu"]) text(environment[key], `environment.${key}`);
  text(record(run.model, "model").name, "model.name");
  const engine = record(run.engine, "engine");
  for (const key of ["device", "dtype", "weights"]) text(engine[key], `engine.${key}`);
  record(engine.switches, "engine.switches");
  for (const key of ["closure", "instrument_ratio"]) number(run[key], key);
  const cells = list(run.cells, "cells");
  if (cells.length === 0) throw new BadRunFile("cells is empty: the file holds no measurement.");
  cells.forEach(checkCell);
  return value as RunFile; // every field that the type names has been looked at
}

function checkCell(value: unknown, index: number): void {
  const at = `cells[${index}]`;
  const cell = record(value, at);
  if (cell.phase !== "decode" && cell.phase !== "prefill") {
    throw new BadRunFile(`${at}.phase is ${show(cell.phase)}; it can be decode or prefill.`);
  }
  for (const key of ["length", "batch", "num_steps"]) count(cell[key], `${at}.${key}`);
  const blocks = times(cell.wall_ns, `${at}.wall_ns`);
  if (blocks === 0) throw new BadRunFile(`${at}.wall_ns is empty: no block was measured.`);
  times(cell.timed_wall_ns, `${at}.timed_wall_ns`);
  for (const [stage, values] of Object.entries(record(cell.stages_ns, `${at}.stages_ns`))) {
    const found = times(values, `${at}.stages_ns.${stage}`);
    if (found !== blocks) {
      throw new BadRunFile(`${at}.stages_ns.${stage} has ${found} blocks, wall_ns has ${blocks}.`);
    }
  }
}

type Fields = Readonly<Record<string, unknown>>;

function record(value: unknown, at: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw wrong(at, value, "an object");
}

function list(value: unknown, at: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw wrong(at, value, "a list");
}

function text(value: unknown, at: string): void {
  if (typeof value !== "string") throw wrong(at, value, "text");
}

function number(value: unknown, at: string): void {
  if (typeof value !== "number" || !Number.isFinite(value)) throw wrong(at, value, "a number");
}

function count(value: unknown, at: string): void {
  if (!Number.isInteger(value) || Number(value) < 1) throw wrong(at, value, "a whole number of 1 or more");
}

function times(value: unknown, at: string): number {
  const values = list(value, at);
  values.forEach((time, index) => number(time, `${at}[${index}]`));
  return values.length;
}

function wrong(at: string, value: unknown, expected: string): BadRunFile {
  return new BadRunFile(
    value === undefined ? `${at} is missing.` : `${at} is ${show(value)}; expected ${expected}.`,
  );
}

function show(value: unknown): string {
  const json = JSON.stringify(value) ?? "missing";
  return json.length > 40 ? `${json.slice(0, 40)}…` : json;
}
