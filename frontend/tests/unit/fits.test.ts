// @vitest-environment happy-dom

// The store of calibrations: asked for once, kept, and never asked for where nobody can answer.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { apiKey, keyWanted } from "../../src/api/client";
import type { RunFile } from "../../src/data/runfile";
import { known } from "../../src/state/asked";
import { calibrations, importCalibration } from "../../src/state/calibration";
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
  expect(calibrations.of(run)).toEqual({ waiting: true });
  expect(calibrations.of(run)).toEqual({ waiting: true });
  const found = await calibrations.settled(run);
  expect(found?.run).toBe(run.id);
  expect(calibrations.of(run)).toBe(found);
  expect(asked.mock.calls).toEqual([["/explorer/v1/calibrate"]]);
});

test("a refusal is kept in the server's words", async () => {
  const run = fresh();
  answer({ error: { message: "the run has 5 cells" } }, 400);
  expect(await calibrations.settled(run)).toBeNull();
  expect(calibrations.of(run)).toEqual({ failed: "the run has 5 cells" });
  expect(asked).toHaveBeenCalledTimes(1);
});

test("an answer that is no calibration is a refusal", async () => {
  const run = fresh();
  answer({ ...RECORDED_FIT, report: null });
  await calibrations.settled(run);
  expect(calibrations.of(run)).toEqual({ failed: "report is null; expected an object." });
});

test("without a key it waits, and with one it is asked again", async () => {
  const run = fresh();
  answer({ error: { message: "missing or wrong API key" } }, 401);
  expect(calibrations.of(run)).toEqual({ waiting: true });
  await vi.waitFor(() => expect(keyWanted.value).toBe(true));
  expect(calibrations.of(run)).toEqual({ waiting: true });
  expect(asked).toHaveBeenCalledTimes(1);
  answer({ ...RECORDED_FIT, run: run.id });
  apiKey.value = "sesame";
  keyWanted.value = false;
  calibrations.of(run);
  await vi.waitFor(() => expect(known(calibrations.of(run))).toBe(true));
});

test("a file is kept, replaces a refusal, and asks nobody", async () => {
  const run = fresh();
  answer({ error: { message: "no" } }, 400);
  await calibrations.settled(run);
  importCalibration(JSON.stringify({ ...RECORDED_FIT, run: run.id }));
  expect(known(calibrations.of(run))).toBe(true);
  expect(asked).toHaveBeenCalledTimes(1);
});

test("a saved copy asks nobody", async () => {
  offline.value = true;
  const run = fresh();
  expect(calibrations.of(run)).toBeNull();
  expect(await calibrations.settled(run)).toBeNull();
  expect(asked).not.toHaveBeenCalled();
});
