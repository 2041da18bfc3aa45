// @vitest-environment happy-dom

// Changes of switches, one at a time: what is sent, what the page then knows, what is said.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Capabilities, Switch } from "../../src/api/types";
import { told } from "../../src/parts/SwitchNews";
import { measuring } from "../../src/state/measuring";
import { capabilities } from "../../src/state/server";
import { news, wish, wishes } from "../../src/state/switching";

const row = (key: string, current: string): Switch => ({
  key,
  choices: ["on", "off"],
  default: "on",
  off: "off",
  current,
  values: ["on", "off"].map((value) => ({ value, why_not: "" })),
  why: "",
  flag: `--${key}`,
  about: "",
  paper: "",
  exactness: "bit",
});
const ENGINE = { device: "cpu", dtype: "float32" };
const KNOWN = { engine: ENGINE, switches: [row("a", "on"), row("b", "on")] } as unknown as Capabilities;

/** What was sent, and what the server is to say to it; a promise, so that a test can wait in between. */
const sent: Record<string, string>[] = [];
let reply: (asked: Record<string, string>) => Promise<Response> | Response;

/** As the engine does: it becomes what was asked for. */
function obey(asked: Record<string, string>): Response {
  const switches = capabilities.value?.switches.map((one) => ({
    ...one,
    current: asked[one.key] ?? one.current,
  }));
  return Response.json({ switches, engine: ENGINE, seconds: 0.31 });
}

beforeEach(() => {
  vi.useFakeTimers();
  sent.length = 0;
  reply = obey;
  capabilities.value = KNOWN;
  vi.stubGlobal("fetch", async (url: URL, { body }: { body?: string }) => {
    if (!url.pathname.endsWith("/switches")) return Response.json({ ...KNOWN, runs: [] });
    const asked = JSON.parse(body ?? "") as Record<string, string>;
    sent.push(asked);
    return reply(asked);
  });
});

afterEach(async () => {
  await vi.runAllTimersAsync();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  news.value = null;
});

const currents = (): string[] => capabilities.value?.switches.map(({ current }) => current) ?? [];
const said = (): string => (news.value ? told(news.value) : "");

test("a choice is sent, and the page knows what the engine has become", async () => {
  wish("a", "off");
  await vi.runAllTimersAsync();
  expect(sent).toEqual([{ a: "off" }]);
  expect(currents()).toEqual(["off", "on"]);
  expect(wishes.value.size).toBe(0);
  expect(said()).toBe("a is off now, after 0.3 s.");
});

test("of choices passed on the way only the last is sent", async () => {
  for (const value of ["1", "2", "3"]) {
    wish("a", value, 500);
    await vi.advanceTimersByTimeAsync(200);
  }
  expect(sent).toEqual([]);
  await vi.runAllTimersAsync();
  expect(sent).toEqual([{ a: "3" }]);
});

test("whoever comes back to what holds has asked for nothing", async () => {
  wish("a", "off", 500);
  wish("a", "on", 500);
  await vi.runAllTimersAsync();
  expect([sent, wishes.value.size, news.value]).toEqual([[], 0, null]);
});

test("further wishes wait for their turn, and a wish taken back meanwhile is put right after it", async () => {
  let built = (): void => undefined;
  reply = (asked) => new Promise((resolve) => (built = () => resolve(obey(asked))));
  wish("a", "off");
  wish("b", "off");
  await vi.runAllTimersAsync();
  expect(sent).toEqual([{ a: "off" }]);
  expect(said()).toBe("Changing a to off …");
  wish("a", "on");
  await vi.runAllTimersAsync();
  for (let done = 1; done <= 3; done++) {
    expect(sent).toHaveLength(done);
    built();
    await vi.runAllTimersAsync();
  }
  expect(sent).toEqual([{ a: "off" }, { b: "off" }, { a: "on" }]);
  expect(currents()).toEqual(["on", "off"]);
});

test("what changes along with it is said", async () => {
  reply = () => Response.json({ switches: [row("a", "off"), row("b", "off")], engine: ENGINE, seconds: 2 });
  wish("a", "off");
  await vi.runAllTimersAsync();
  expect(said()).toBe("a is off now, after 2.0 s, and with it b is off.");
});

test("a refusal leaves everything as it was, says why, and lets the next wish through", async () => {
  reply = (asked) =>
    "a" in asked
      ? Response.json({ error: { message: "a cannot be off here", param: "a" } }, { status: 400 })
      : obey(asked);
  wish("a", "off");
  await vi.runAllTimersAsync();
  expect([currents(), wishes.value.size, said()]).toEqual([["on", "on"], 0, "a cannot be off here"]);
  wish("b", "off");
  await vi.runAllTimersAsync();
  expect(currents()).toEqual(["on", "off"]);
});

test("while this page measures nothing is asked, and the reason is said at once", async () => {
  measuring.value = { state: "running", byItself: false, seconds: null, done: 0, total: 0, text: "" };
  wish("a", "off");
  await vi.runAllTimersAsync();
  measuring.value = { state: "idle" };
  expect([sent, currents(), wishes.value.size]).toEqual([[], ["on", "on"], 0]);
  expect(said()).toContain("A measurement is running");
});

test("after a broken connection the server is asked what holds", async () => {
  capabilities.value = { ...KNOWN, switches: [row("a", "off"), row("b", "on")] };
  reply = () => Promise.reject(new TypeError("Failed to fetch"));
  wish("b", "off");
  await vi.runAllTimersAsync();
  expect(said()).toBe("Failed to fetch");
  expect(currents()).toEqual(["on", "on"]);
});
