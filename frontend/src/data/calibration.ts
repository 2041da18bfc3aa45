// The calibration, schema 4: what `pellucid calibrate` writes and the server sends. A machine whose
// efficiencies were fitted to a run, and how well it predicts the cells that it was not fitted to.

import type { Choices, Hardware } from "../api/types";
import { type Crossing, type Level, LEVELS } from "./answers";
import { BadFile, count, list, number, oneOf, parse, positive, record, show, text } from "./fields";
import { KINDS } from "./provenance";
import { PHASES, type Phase } from "./runfile";

export const CALIBRATION_SCHEMA = 4;

export interface Calibration {
  readonly schema: number;
  /** Id of the run that it was fitted to. */
  readonly run: string;
  /** Name of the model that was measured. */
  readonly model: string;
  readonly hardware: Hardware;
  readonly choices: Choices;
  readonly report: Report;
  readonly cells: readonly ModelledCell[];
}

/** What the stages of a cell should take, those of at least a hundredth of its step. */
export interface ModelledCell {
  readonly phase: Phase;
  readonly length: number;
  readonly batch: number;
  /** Whether the cell was set aside in the fit. */
  readonly held_out: boolean;
  readonly stages: Readonly<Record<string, { readonly seconds: number; readonly bound: string }>>;
}

interface Workload {
  readonly phase: Phase;
  readonly length: number;
  readonly batch: number;
  readonly prefix: number;
}

/** Errors on the cells set aside, as parts of what was measured; shares in percentage points. */
export interface Report {
  readonly num_fitted: number;
  readonly num_held_out: number;
  readonly seed: number;
  readonly held_out: readonly Workload[];
  readonly stage_error: { readonly median: number; readonly p90: number };
  readonly step_error: { readonly median: number; readonly max: number };
  readonly share_error_points: { readonly median: number; readonly max: number };
  /** Median modelled / measured, by phase and stage. */
  readonly by_stage: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly crossover: readonly CrossoverRow[];
}

/** From what length on attention has some share: modelled, measured, and one by the other. */
export interface CrossoverRow {
  readonly phase: Phase;
  readonly batch: number;
  readonly level: Level;
  readonly modelled: Crossing;
  readonly measured: Crossing;
  readonly ratio: number | null;
}

const RATES = [
  ...["flop_s", "bytes_s", "eta_gemm", "eta_gemv", "eta_attention_flops", "eta_attention_bytes"],
  ...["eta_reduction", "eta_elementwise", "fastest", "slowest"],
];
const COSTS = [
  ...["launch_s", "library_s", "node_s", "library_node_s", "attention_launches"],
  ...["host_s", "host_row_s", "host_token_s"],
  ...["gemm_rows", "attention_positions"],
];
const ERRORS = { stage_error: "p90", step_error: "max", share_error_points: "max" } as const;

/** Whether a file calls itself a calibration, well-formed or not: it belongs to a run by its id. */
export function looksCalibrated(value: unknown): boolean {
  return typeof value === "object" && value !== null && "hardware" in value && !("engine" in value);
}

export function parseCalibration(text: string): Calibration {
  return checkCalibration(parse(text));
}

/** The same object, known to hold what this page reads; anything more in it is kept. */
export function checkCalibration(value: unknown): Calibration {
  const file = record(value, "the file");
  if (file.schema !== CALIBRATION_SCHEMA) {
    throw new BadFile(
      `schema is ${show(file.schema)}; this page reads schema ${CALIBRATION_SCHEMA}, as \`pellucid calibrate\` writes it.`,
    );
  }
  for (const key of ["run", "model"]) text(file[key], key);
  checkHardware(file.hardware);
  checkChoices(file.choices);
  checkReport(file.report);
  list(file.cells, "cells").forEach(checkCell);
  return value as Calibration; // every field that the type names has been looked at
}

function checkHardware(value: unknown): void {
  const hardware = record(value, "hardware");
  text(hardware.name, "hardware.name");
  oneOf(hardware.kind, ["calibrated"], "hardware.kind");
  oneOf(hardware.device, ["cuda", "cpu"], "hardware.device");
  for (const key of RATES) positive(hardware[key], `hardware.${key}`);
  for (const key of COSTS) number(hardware[key], `hardware.${key}`);
}

/** They go back to the server as they are, which knows what they mean. */
function checkChoices(value: unknown): void {
  for (const [key, choice] of Object.entries(record(value, "choices")))
    if (typeof choice !== "string") number(choice, `choices.${key}`);
}

function checkCell(value: unknown, index: number): void {
  const at = `cells[${index}]`;
  const cell = record(value, at);
  oneOf(cell.phase, PHASES, `${at}.phase`);
  for (const key of ["length", "batch"]) count(cell[key], `${at}.${key}`);
  oneOf(cell.held_out, [true, false], `${at}.held_out`);
  for (const [stage, value] of Object.entries(record(cell.stages, `${at}.stages`))) {
    const told = record(value, `${at}.stages.${stage}`);
    positive(told.seconds, `${at}.stages.${stage}.seconds`);
    text(told.bound, `${at}.stages.${stage}.bound`);
  }
}

function checkReport(value: unknown): void {
  const report = record(value, "report");
  for (const key of ["num_fitted", "num_held_out"]) count(report[key], `report.${key}`);
  number(report.seed, "report.seed");
  list(report.held_out, "report.held_out").forEach((work, index) => {
    checkWorkload(work, `report.held_out[${index}]`);
  });
  for (const [key, worst] of Object.entries(ERRORS)) {
    const error = record(report[key], `report.${key}`);
    for (const name of ["median", worst]) number(error[name], `report.${key}.${name}`);
  }
  for (const [phase, stages] of Object.entries(record(report.by_stage, "report.by_stage"))) {
    const at = `report.by_stage.${phase}`;
    for (const [stage, ratio] of Object.entries(record(stages, at))) positive(ratio, `${at}.${stage}`);
  }
  list(report.crossover, "report.crossover").forEach((row, index) => {
    checkRow(row, `report.crossover[${index}]`);
  });
}

function checkWorkload(value: unknown, at: string): void {
  const work = record(value, at);
  oneOf(work.phase, PHASES, `${at}.phase`);
  for (const key of ["length", "batch"]) count(work[key], `${at}.${key}`);
  number(work.prefix, `${at}.prefix`);
}

function checkRow(value: unknown, at: string): void {
  const row = record(value, at);
  oneOf(row.phase, PHASES, `${at}.phase`);
  count(row.batch, `${at}.batch`);
  oneOf(
    row.level,
    LEVELS.map(({ key }) => key),
    `${at}.level`,
  );
  for (const key of ["modelled", "measured"]) checkCrossing(row[key], `${at}.${key}`);
  if (row.ratio !== null) positive(row.ratio, `${at}.ratio`);
}

function checkCrossing(value: unknown, at: string): void {
  const crossing = record(value, at);
  for (const key of ["value", "lo", "hi"]) if (crossing[key] !== null) count(crossing[key], `${at}.${key}`);
  oneOf(crossing.kind, KINDS, `${at}.kind`);
  text(crossing.status, `${at}.status`);
}
