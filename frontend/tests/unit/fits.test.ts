// @vitest-environment happy-dom

// The store of calibrations: asked for once, kept, and never asked for where nobody can answer.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { apiKey, keyWanted } from "../../src/api/client";
import type { RunFile } from "../../src/data/runfile";
import {
  calibrationOf,
  importCalibration,
  isCalibrated,
  settledCalibration,
} from "../../src/state/calibration";
import { offline } from "../../src/state/server";
import { RECORDED, RECORDED_FIT } from "../recorded";

let number = 0;
/** A run that the store has never heard of: what it knows stays for the life of the page. */
function fresh(): RunFile {
  number += 1;
  return { ...RECORDED, id: number.toString(16).padStart(64, "0") };
}

const asked = vi.fn<(path: string) => Response>();
const answer = (body: unknown, status = 200): void => {
  asked.mockImplementation(() => new Response(JSON.stringify(body), { status }));
};

beforeEach(() => {
  asked.mockReset();
  vi.stubGlobal("fetch", async (url: URL) => asked(url.pathname));
});
afterEach(() => {
  vi.unstubAllGlobals();
  offline.value = false;
  keyWanted.value = false;
});

test("the server is asked once, whoever asks", async () => {
  const run = fresh();
  answer({ ...RECORDED_FIT, run: run.id });
  expect(calibrationOf(run)).toEqual({ waiting: true });
  expect(calibrationOf(run)).toEqual({ waiting: true });
  const found = await settledCalibration(run);
  expect(found?.run).toBe(run.id);
  expect(calibrationOf(run)).toBe(found);
  expect(asked.mock.calls).toEqual([["/explorer/v1/calibrate"]]);
});

test("a refusal is kept in the server's words", async () => {
  const run = fresh();
  answer({ error: { message: "the run has 5 cells" } }, 400);
  expect(await settledCalibration(run)).toBeNull();
  expect(calibrationOf(run)).toEqual({ failed: "the run has 5 cells" });
  expect(asked).toHaveBeenCalledTimes(1);
});

test("an answer that is no calibration is a refusal", async () => {
  const run = fresh();
  answer({ ...RECORDED_FIT, report: null });
  await settledCalibration(run);
  expect(calibrationOf(run)).toEqual({ failed: "report is null; expected an object." });
});

test("without a key it waits, and with one it is asked again", async () => {
  const run = fresh();
  answer({ error: { message: "missing or wrong API key" } }, 401);
  expect(calibrationOf(run)).toEqual({ waiting: true });
  await vi.waitFor(() => expect(keyWanted.value).toBe(true));
  expect(calibrationOf(run)).toEqual({ waiting: true });
  expect(asked).toHaveBeenCalledTimes(1);
  answer({ ...RECORDED_FIT, run: run.id });
  apiKey.value = "sesame";
  keyWanted.value = false;
  calibrationOf(run);
  await vi.waitFor(() => expect(isCalibrated(calibrationOf(run))).toBe(true));
});

test("a file is kept, replaces a refusal, and asks nobody", async () => {
  const run = fresh();
  answer({ error: { message: "no" } }, 400);
  await settledCalibration(run);
  importCalibration(JSON.stringify({ ...RECORDED_FIT, run: run.id }));
  expect(isCalibrated(calibrationOf(run))).toBe(true);
  expect(asked).toHaveBeenCalledTimes(1);
});

test("a saved copy asks nobody", async () => {
  offline.value = true;
  const run = fresh();
  expect(calibrationOf(run)).toBeNull();
  expect(await settledCalibration(run)).toBeNull();
  expect(asked).not.toHaveBeenCalled();
});
