// @vitest-environment happy-dom

// The store of curves: what is asked of the server, how often, and what is drawn meanwhile.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { keyWanted } from "../../src/api/client";
import type { CurvesBody } from "../../src/api/types";
import { answersKept, curveOf, isCurve, type Question } from "../../src/state/curves";
import { offline } from "../../src/state/server";
import { body } from "../calibrated";
import { toyCurves } from "../toy";

let number = 0;
/** A question that the store has never heard of: what it knows stays for the life of the page. */
function fresh(): Question {
  const { switches: _, ...question } = body({ name: `model ${(number += 1)}` });
  return question;
}

const asked: CurvesBody[] = [];
let reply: (body: CurvesBody) => Response;
const answered = (body: CurvesBody): Response => Response.json(toyCurves(body));
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await new Promise((later) => setTimeout(later, 0));
};

beforeEach(() => {
  asked.length = 0;
  reply = answered;
  vi.stubGlobal("fetch", async (_: URL, { body: text }: { body: string }) => {
    const sent = JSON.parse(text) as CurvesBody;
    asked.push(sent);
    return reply(sent);
  });
});
afterEach(() => {
  vi.unstubAllGlobals();
  offline.value = false;
  keyWanted.value = false;
});

const ON = { kv_cache: "on", attention: "flash", fused_kernels: "on", chunked_prefill: "512" };
/** Everything that the toy says of these. */
const whole = (switches: Record<string, string>): Record<string, string> => ({
  ...toyCurves(body({ switches })).curves[0]!.switches,
});

test("the server is asked once, whoever asks", async () => {
  const question = fresh();
  for (const _ of [1, 2, 3]) expect(curveOf(question, whole(ON))).toEqual({ waiting: true });
  await settle();
  const found = curveOf(question, whole(ON));
  expect(isCurve(found) && found.curve).toMatchObject({ switch: "", switches: whole(ON) });
  for (const _ of [1, 2, 3]) curveOf(question, whole(ON));
  await settle();
  expect(asked).toEqual([{ ...question, switches: whole(ON) }]);
});

test("a neighbour is there at once, and then asked for itself", async () => {
  const question = fresh();
  curveOf(question, whole(ON));
  await settle();
  const next = { ...whole(ON), attention: "naive" };
  const near = curveOf(question, next);
  expect(isCurve(near) && near.curve).toMatchObject({ switch: "attention", value: "naive" });
  await settle();
  const own = curveOf(question, next);
  expect(isCurve(own) && own.curve).toMatchObject({ switch: "", switches: next });
  // The same seconds, whichever answer they came in.
  expect(isCurve(own) && isCurve(near) && own.curve.seconds).toEqual(isCurve(near) && near.curve.seconds);
  // And the way back is known already.
  const back = curveOf(question, whole(ON));
  expect(isCurve(back) && back.curve.switch).toBe("");
  await settle();
  expect(asked.map(({ switches }) => switches.attention)).toEqual(["flash", "naive"]);
});

test("switches that the server settles differently are not asked for again and again", async () => {
  const question = fresh();
  const wanted = { ...whole({ ...ON, overlap: "on" }), kv_cache: "off", overlap: "on" };
  for (let round = 0; round < 5; round++) {
    curveOf(question, wanted);
    await settle();
  }
  expect(asked).toHaveLength(1);
  const found = curveOf(question, wanted);
  expect(isCurve(found) && found.curve.switches).toMatchObject({ kv_cache: "off", overlap: "off" });
  // Nor those that it came to.
  curveOf(question, { ...wanted, overlap: "off" });
  await settle();
  expect(asked).toHaveLength(1);
});

test("a failure is said in the server's words, and not asked for again", async () => {
  const question = fresh();
  reply = () => Response.json({ error: { message: "batch must be less" } }, { status: 400 });
  curveOf(question, whole(ON));
  await settle();
  for (const _ of [1, 2]) expect(curveOf(question, whole(ON))).toEqual({ failed: "batch must be less" });
  await settle();
  expect(asked).toHaveLength(1);
  // Other switches are another question.
  expect(curveOf(question, { ...whole(ON), attention: "naive" })).toEqual({ waiting: true });
});

test("of another batch nothing is known", async () => {
  const question = fresh();
  curveOf(question, whole(ON));
  await settle();
  expect(curveOf({ ...question, batch: 2 }, whole(ON))).toEqual({ waiting: true });
  await settle();
  const found = curveOf({ ...question, batch: 2 }, whole(ON));
  expect(isCurve(found) && found.curves.batch).toBe(2);
});

test("without a key it waits, and with one it is asked again", async () => {
  const question = fresh();
  reply = () => Response.json({ error: { message: "missing or wrong API key" } }, { status: 401 });
  expect(curveOf(question, whole(ON))).toEqual({ waiting: true });
  await settle();
  expect(keyWanted.value).toBe(true);
  expect(curveOf(question, whole(ON))).toEqual({ waiting: true });
  await settle();
  expect(asked).toHaveLength(1);
  reply = answered;
  keyWanted.value = false;
  curveOf(question, whole(ON));
  await settle();
  expect(isCurve(curveOf(question, whole(ON)))).toBe(true);
});

test("a saved copy asks nobody, and draws what came with it", async () => {
  const question = fresh();
  curveOf(question, whole(ON));
  await settle();
  offline.value = true;
  expect(isCurve(curveOf(question, { ...whole(ON), attention: "sdpa" }))).toBe(true);
  expect(curveOf(question, { ...whole(ON), attention: "sdpa", kv_cache: "off" })).toBeNull();
  expect(curveOf(fresh(), whole(ON))).toBeNull();
  await settle();
  expect(asked).toHaveLength(1);
});

test("the last answers are kept, and not all that ever came", async () => {
  const question = fresh();
  for (let batch = 1; batch <= 45; batch++) curveOf({ ...question, batch }, whole(ON));
  await vi.waitFor(() => expect(asked).toHaveLength(45));
  await settle();
  expect(answersKept()).toHaveLength(40);
});
