import { describe, expect, test } from "vitest";
import { checkCalibration, looksCalibrated, parseCalibration } from "../../src/data/calibration";
import { BadFile } from "../../src/data/fields";
import { RECORDED, RECORDED_FIT as CALIBRATION } from "../recorded";
import { HERE } from "../sample";

const { hardware, choices, report, cells } = CALIBRATION;
const [row] = [
  {
    phase: "decode",
    batch: 1,
    level: "s10",
    modelled: { value: 170, lo: 1, hi: null, kind: "calibrated", status: "found" },
    measured: { value: 111, lo: 102, hi: 138, kind: "recorded", status: "found" },
    ratio: 1.53,
  },
];

const BAD: Record<string, [object, RegExp]> = {
  "another schema": [{ schema: 1 }, /schema is 1; this page reads schema 4/],
  "no run": [{ run: undefined }, /run is missing/],
  "a machine of a data sheet": [
    { hardware: { ...hardware, kind: "spec" } },
    /hardware\.kind is "spec"; it can be calibrated/,
  ],
  "no bandwidth": [
    { hardware: { ...hardware, bytes_s: 0 } },
    /hardware\.bytes_s is 0; expected a number above/,
  ],
  "text for a cost": [{ hardware: { ...hardware, host_s: "fast" } }, /hardware\.host_s is "fast"/],
  "no sizes": [{ choices: { ...choices, kv_bytes: null } }, /choices\.kv_bytes is null/],
  "no errors": [{ report: { ...report, stage_error: {} } }, /report\.stage_error\.median is missing/],
  "a strange cell": [
    { report: { ...report, held_out: [{ phase: "sleep" }] } },
    /report\.held_out\[0\]\.phase is "sleep"; it can be decode or prefill/,
  ],
  "a bias of nothing": [
    { report: { ...report, by_stage: { decode: { mlp: 0 } } } },
    /report\.by_stage\.decode\.mlp is 0/,
  ],
  "no cells": [{ cells: undefined }, /cells is missing/],
  "a stage without a time": [
    { cells: [{ ...cells[0], stages: { mlp: { seconds: 0, bound: "host" } } }] },
    /cells\[0\]\.stages\.mlp\.seconds is 0/,
  ],
  "a cell that says not whether it was set aside": [
    { cells: [{ ...cells[0], held_out: undefined }] },
    /cells\[0\]\.held_out is missing; it can be true or false/,
  ],
  "a crossing without a kind": [
    { report: { ...report, crossover: [{ ...row, measured: { ...row?.measured, kind: "felt" } }] } },
    /report\.crossover\[0\]\.measured\.kind is "felt"/,
  ],
};

describe("a calibration", () => {
  test("is read as it is, and keeps what this page does not know", () => {
    const full = {
      ...CALIBRATION,
      report: { ...report, crossover: [row, { ...row, ratio: null }] },
      later: 1,
    };
    expect(checkCalibration(full)).toBe(full);
    expect(parseCalibration(JSON.stringify(CALIBRATION))).toEqual(CALIBRATION);
  });

  test("is told from a run file", () => {
    expect(looksCalibrated(CALIBRATION)).toBe(true);
    for (const other of [HERE, RECORDED, { ...HERE, hardware: {} }, null, 3, []])
      expect(looksCalibrated(other)).toBe(false);
  });

  for (const [name, [change, message]] of Object.entries(BAD)) {
    test(`with ${name} is refused in words`, () => {
      const file = JSON.parse(JSON.stringify({ ...CALIBRATION, ...change })) as unknown;
      expect(() => checkCalibration(file)).toThrow(BadFile);
      expect(() => checkCalibration(file)).toThrow(message);
    });
  }
});
