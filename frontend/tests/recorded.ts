// Real measurements and the calibrations that Python made of them.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
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

/** The same, as if a GPU had been measured that there is a data sheet of. */
export const ON_GPU: RunFile = {
  ...RECORDED,
  id: "f8".repeat(32),
  environment: { ...RECORDED.environment, gpu: "NVIDIA H100 80GB HBM3" },
  engine: { ...RECORDED.engine, device: "cuda:0" },
  limits: { matmul_flop_s: 700e12, read_bytes_s: 3e12 },
};
