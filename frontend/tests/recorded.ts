// Real measurements and the calibrations that Python made of them.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Counts } from "../src/api/types";
import { parseCalibration } from "../src/data/calibration";
import { parseRunFile, type RunFile } from "../src/data/runfile";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "../../bench/results");
const read = (name: string): string => readFileSync(join(FOLDER, name), "utf8");

export const RECORDED = parseRunFile(read("run-smollm2-cpu.json"));
export const RECORDED_FIT = parseCalibration(read("calibrated-smollm2-cpu.json"));

/** All runs that have a calibration, by their name. */
export const PAIRS = readdirSync(FOLDER).flatMap((file) => {
  const name = /^calibrated-(.+)\.json$/.exec(file)?.[1];
  if (!name) return [];
  const run = parseRunFile(read(`run-${name}.json`));
  return [{ name, run, fit: parseCalibration(read(file)) }];
});

/** What the server counts in these runs: `python tests/golden/make_page.py` writes it. */
const countsOf = (name: string): Counts =>
  JSON.parse(
    readFileSync(join(dirname(fileURLToPath(import.meta.url)), `golden/counts-${name}.json`), "utf8"),
  ) as Counts;

export const RECORDED_COUNTS = countsOf("smollm2-cpu");

/** A run of another model on another machine, with its counts and its fit. */
export const FAR = parseRunFile(read("run-qwen3-0.6b-h100.json"));
export const FAR_FIT = parseCalibration(read("calibrated-qwen3-0.6b-h100.json"));
export const FAR_COUNTS = countsOf("qwen3-0.6b-h100");

/** The same as the first, as if a GPU had been measured that there is a data sheet of. */
export const ON_GPU: RunFile = {
  ...RECORDED,
  id: "f8".repeat(32),
  environment: { ...RECORDED.environment, gpu: "NVIDIA H100 80GB HBM3" },
  engine: { ...RECORDED.engine, device: "cuda:0" },
  limits: { matmul_flop_s: 700e12, read_bytes_s: 3e12 },
};

export const ON_GPU_COUNTS: Counts = {
  ...RECORDED_COUNTS,
  run: ON_GPU.id,
  device: "cuda",
  limits: { flop_s: 700e12, bytes_s: 3e12 },
  sheet: FAR_COUNTS.sheet,
};
