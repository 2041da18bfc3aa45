// @vitest-environment happy-dom

// What is drawn, what was drawn before, and the switches beside it: with the engine behind the page,
// and without.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Capabilities, CurvesBody, RunEntry } from "../../src/api/types";
import { phasesOf } from "../../src/data/budget";
import type { RunFile } from "../../src/data/runfile";
import { before, forget, remember } from "../../src/state/before";
import { calibrations } from "../../src/state/calibration";
import { counts } from "../../src/state/counts";
import { effectOf } from "../../src/state/effects";
import { HOME, switchesIn, type Link } from "../../src/state/link";
import { link } from "../../src/state/navigation";
import { choose, chosenOf, ownerOfPicture, rows } from "../../src/state/rows";
import { entries, loaded } from "../../src/state/runs";
import { capabilities, offline } from "../../src/state/server";
import {
  engineSwitches,
  fellowOf,
  followsEngine,
  PASTED,
  pasted,
  questionOf,
  runOf,
  setOf,
  setting,
  type Setting,
} from "../../src/state/setting";
import { isSide, pairOf, sideOf, type Side } from "../../src/state/sides";
import { wishes } from "../../src/state/switching";
import { CALIBRATION, COUNTS, MODELLED_RUN } from "../calibrated";
import { FAR, FAR_COUNTS, FAR_FIT } from "../recorded";
import { toyCurves, toySeconds } from "../toy";

const RUN = MODELLED_RUN;
const own = RUN.engine.switches as Record<string, string>;

const asked: CurvesBody[] = [];
let reply: (body: CurvesBody) => Promise<Response> | Response;
const answered = (body: CurvesBody): Response => Response.json(toyCurves(body));

/** Until everything that was asked has come: as drawing does, look at what is asked for again. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    if (setting.value) sideOf("A", setting.value);
    await new Promise((later) => setTimeout(later, 0));
  }
}

/** An engine behind the page, with these switches. */
function engine(switches: Record<string, string>, name = RUN.model.name, device = "cpu"): void {
  const row = (key: string, current: string): object => ({
    key,
    current,
    choices: ["flash", "sdpa", "naive", "on", "off", "8192", "512", "64"],
    values: [...new Set([current, "on", "off"])].map((value) => ({ value, why_not: "" })),
    off: key === "attention" ? "naive" : "off",
  });
  capabilities.value = {
    model: { name },
    engine: { device, dtype: "float32" },
    switches: Object.entries(switches).map(([key, current]) => row(key, current)),
  } as unknown as Capabilities;
}

function show(run: RunFile, more: Partial<Link> = {}, others: readonly RunFile[] = []): void {
  const all = [run, ...others];
  loaded.value = new Map(all.map((one) => [one.id, { run: one, kind: "recorded", answers: [] }]));
  entries.value = all.map(entryOf);
  link.value = { ...HOME, a: run.id, ...more };
}

const entryOf = (run: RunFile): RunEntry => ({
  id: run.id,
  date: run.environment.date,
  model: run.model.name,
  device: (run.engine.device.startsWith("cuda") && run.environment.gpu) || run.environment.cpu,
  kind: "recorded",
  phases: [...new Set(run.cells.map(({ phase }) => phase))],
  switches: run.engine.switches,
});

/** The same run, measured with other switches. */
const like = (id: string, switches: Record<string, string>): RunFile => ({
  ...RUN,
  id: id.repeat(32),
  engine: { ...RUN.engine, switches: { ...RUN.engine.switches, ...switches } },
});

const now = (): Setting => {
  if (!setting.value) throw new Error("nothing is shown");
  return setting.value;
};
const side = (): Side => {
  const found = sideOf("A", now());
  if (!isSide(found)) throw new Error(`nothing is drawn: ${JSON.stringify(found)}`);
  return found;
};

beforeEach(() => {
  asked.length = 0;
  reply = answered;
  vi.stubGlobal("fetch", async (url: URL, { body: text }: { body?: string }) => {
    if (!url.pathname.endsWith("/curves"))
      return Response.json({ error: { message: "no" } }, { status: 400 });
    const body = JSON.parse(text ?? "") as CurvesBody;
    asked.push(body);
    return reply(body);
  });
  counts.keep(RUN.id, COUNTS);
  calibrations.keep(RUN.id, CALIBRATION);
  counts.keep(FAR.id, FAR_COUNTS);
  calibrations.keep(FAR.id, FAR_FIT);
});
afterEach(() => {
  vi.unstubAllGlobals();
  capabilities.value = null;
  wishes.value = new Map();
  offline.value = false;
  pasted.value = null;
  forget();
});

describe("a picture follows the engine", () => {
  const ENGINE = { ...own, chunked_prefill: "512" };

  test("while its run is one of the same model on the same kind of machine", () => {
    show(RUN);
    expect(followsEngine.value).toBe(false); // there is none yet
    engine(ENGINE);
    expect([followsEngine.value, ownerOfPicture.value]).toEqual([true, "engine"]);
    engine(ENGINE, "another model");
    expect(followsEngine.value).toBe(false);
    engine(ENGINE, RUN.model.name, "cuda:0");
    expect([followsEngine.value, ownerOfPicture.value]).toEqual([false, "picture"]);
    engine(ENGINE);
    for (const elsewhere of [{ machine: "h100" }, { shape: "Llama-3.1-8B" }]) {
      show(RUN, elsewhere);
      expect(followsEngine.value).toBe(false);
    }
  });

  test("and what is wished for of it", () => {
    show(RUN);
    engine(ENGINE);
    expect(now().switches).toMatchObject({ attention: "flash", kv_cache: "on" });
    wishes.value = new Map([["attention", "naive"]]);
    expect(engineSwitches.value).toMatchObject({ attention: "naive", kv_cache: "on" });
    expect(now().switches.attention).toBe("naive");
  });

  test("unless the address has other switches", () => {
    show(RUN, { set: "attention:naive" });
    engine(ENGINE);
    expect(followsEngine.value).toBe(false);
    expect(now().switches.attention).toBe("naive");
    engine(ENGINE, "another model");
    expect(now().switches).toMatchObject({ attention: "naive", kv_cache: "on", chunked_prefill: "512" });
  });
});

describe("the run of a setting", () => {
  test("is the shown one, while its switches are those", () => {
    show(RUN);
    expect(runOf(now())?.run.id).toBe(RUN.id);
    show(RUN, { set: "attention:naive" });
    expect(runOf(now())).toBeNull();
  });

  test("is another of the same model and machine that had them, even if it is not here yet", () => {
    const naive = like("0a", { attention: "naive" });
    show(RUN, { set: "attention:naive" }, [naive]);
    expect(fellowOf(now())).toBe(naive.id);
    expect(runOf(now())?.run.id).toBe(naive.id);
    loaded.value = new Map([[RUN.id, { run: RUN, kind: "recorded", answers: [] }]]);
    expect([fellowOf(now()), runOf(now())]).toEqual([naive.id, null]);
    show(RUN, {}, [naive]);
    expect(fellowOf(now())).toBe(""); // the shown one will do
  });

  test("is no run of another model or machine, nor one without what is looked at", () => {
    const naive = like("0a", { attention: "naive" });
    const set = { set: "attention:naive" };
    const others: RunFile[] = [
      { ...naive, model: { ...naive.model, name: "other" } },
      { ...naive, environment: { ...naive.environment, cpu: "another" } },
      { ...naive, cells: naive.cells.filter(({ phase }) => phase === "prefill") },
    ];
    for (const other of others) {
      show(RUN, set, [other]);
      expect(fellowOf(now())).toBe("");
    }
    show(RUN, { ...set, machine: "h100" }, [naive]);
    expect([fellowOf(now()), runOf(now())]).toEqual(["", null]);
  });

  test("of a whole request measured both phases", () => {
    expect([phasesOf("request"), phasesOf("prefill")]).toEqual([["decode", "prefill"], ["prefill"]]);
    const naive = like("0a", { attention: "naive" });
    show(RUN, { set: "attention:naive", phase: "request" }, [naive]);
    expect(fellowOf(now())).toBe(naive.id);
    const half = { ...naive, cells: naive.cells.filter(({ phase }) => phase === "decode") };
    show(RUN, { set: "attention:naive", phase: "request" }, [half]);
    expect(fellowOf(now())).toBe("");
  });

  test("may differ in what makes no difference there", () => {
    const set = "batching:static,chunked_prefill:64,sampler:sort";
    show(RUN, { set });
    expect(runOf(now())?.run.id).toBe(RUN.id); // a decode step has no prompt to cut
    show(RUN, { set: `${set},kv_cache:off` }, [like("0b", { kv_cache: "off" })]);
    expect(runOf(now())).toBeNull(); // but without a KV cache each step is one
    show(RUN, { set, phase: "prefill" });
    expect(runOf(now())).toBeNull();
    show(RUN, { set: "chunked_prefill:512", phase: "prefill" });
    expect(runOf(now())?.run.id).toBe(RUN.id); // which the default comes to on a CPU
  });
});

describe("what the cost model is asked", () => {
  test("is the run's own machine and model, at its lengths", () => {
    show(RUN, { batch: 2, output: 7 });
    expect(questionOf(now())).toEqual({
      name: "smollm2",
      spec: COUNTS.spec,
      hardware: CALIBRATION.hardware,
      choices: COUNTS.choices,
      packed: { weight_bytes: 0.6, head_bytes: 1.06 },
      scope: "decode",
      batch: 2,
      num_outputs: 7,
      lengths: [64, 128, 256, 512, 1024, 2048, 4096],
    });
  });

  test("is another model, dense, on the same machine", () => {
    show(RUN, { shape: "Llama-3.1-8B" });
    const question = questionOf(now());
    expect(question).toMatchObject({ shape: "Llama-3.1-8B", hardware: CALIBRATION.hardware, packed: {} });
    expect(question).toMatchObject({ choices: { weight_bytes: 4, head_bytes: 0 } });
    expect(question).not.toHaveProperty("spec");
  });

  test("is the same model on another machine, by name", () => {
    show(RUN, { machine: "h100" });
    const question = questionOf(now());
    expect(question).toMatchObject({ spec: COUNTS.spec, machine: "h100", choices: {}, packed: {} });
    expect(question).not.toHaveProperty("hardware");
    expect(now().switches).toEqual({}); // those of the run are not that machine's
  });

  test("is a pasted model once there is one", () => {
    show(RUN, { shape: PASTED });
    expect(questionOf(now())).toEqual({ failed: "no config.json was pasted yet" });
    pasted.value = { hidden_size: 64 };
    expect(questionOf(now())).toMatchObject({ config: { hidden_size: 64 } });
  });

  test("is the maker's machine where none could be fitted, and nothing where there is no such", () => {
    show(FAR);
    calibrations.keep(FAR.id, { failed: "the run has 5 cells." });
    expect(questionOf(now())).toMatchObject({ hardware: FAR_COUNTS.sheet });
    show(RUN);
    calibrations.keep(RUN.id, { failed: "the run has 5 cells." });
    expect(questionOf(now())).toEqual({
      failed: "the run has 5 cells, and there is no data sheet of its machine",
    });
  });
});

describe("what was there before", () => {
  test("is what was remembered, while something has come of it", () => {
    show(RUN);
    expect(before.value).toBeNull();
    remember();
    expect(before.value).toBeNull(); // nothing has changed yet
    show(RUN, { set: "attention:naive" });
    expect(before.value?.switches.attention).toBe("flash");
    show(RUN); // taken back
    expect(before.value).toBeNull();
    show(RUN, { machine: "h100" });
    expect(before.value?.machine).toBe("");
    forget();
    expect(before.value).toBeNull();
  });

  test("is not another run's", () => {
    show(RUN);
    remember();
    show(like("0a", {}), { set: "attention:naive" });
    expect(before.value).toBeNull();
  });

  test("a refused wish leaves nothing behind", () => {
    show(RUN);
    engine({ ...own, chunked_prefill: "512" });
    remember();
    wishes.value = new Map([["attention", "naive"]]);
    expect(before.value?.switches.attention).toBe("flash");
    wishes.value = new Map();
    expect(before.value).toBeNull();
  });
});

describe("choosing a value", () => {
  test("of the engine's switch is a wish, and no part of the address", () => {
    show(RUN);
    engine({ ...own, chunked_prefill: "512" });
    choose("engine", "attention", "naive", 60_000);
    expect([...wishes.value]).toEqual([["attention", "naive"]]);
    expect(link.value.set).toBe("");
    expect(before.value?.switches.attention).toBe("flash");
    const row = rows.value.find(({ key }) => key === "attention")!;
    expect([row.current, chosenOf(row, "engine"), chosenOf(row, "picture")]).toEqual([
      "flash",
      "naive",
      "flash",
    ]);
  });

  test("of the engine's switch changes no picture of another machine", () => {
    show(FAR);
    engine({ ...own, chunked_prefill: "512" });
    choose("engine", "attention", "naive", 60_000);
    expect([...wishes.value]).toEqual([["attention", "naive"]]);
    expect([link.value.set, before.value]).toEqual(["", null]);
  });

  test("of the picture's own is in its address, and no engine hears of it", async () => {
    show(FAR);
    engine({ ...own, chunked_prefill: "512" });
    await settle();
    expect(rows.value).toEqual([]); // what is measured needs no model: the rows ask for it
    await settle();
    expect(rows.value.map(({ key }) => key)).toEqual(Object.keys(toyCurves(asked[0]!).curves[0]!.switches));
    choose("picture", "attention", "naive");
    expect(wishes.value.size).toBe(0);
    // What it takes along is in it, and nothing that the run had anyway.
    expect(switchesIn(link.value.set)).toEqual({ attention: "naive", graphs: "off" });
    expect(before.value?.switches.attention).toBe("flash");
    choose("picture", "attention", "flash");
    expect(switchesIn(link.value.set)).toEqual({ graphs: "off" });
  });

  test("and another before the first one's curves have come keeps the first", async () => {
    show(FAR, { set: "gemv:off" });
    void rows.value;
    await settle();
    void rows.value;
    let release = (): void => undefined;
    reply = (body) => new Promise((resolve) => (release = () => resolve(answered(body))));
    choose("picture", "attention", "sdpa");
    expect(rows.value.find(({ key }) => key === "attention")?.current).toBe("sdpa");
    choose("picture", "fused_kernels", "off");
    expect(switchesIn(link.value.set)).toEqual({
      attention: "sdpa",
      fused_kernels: "off",
      gemv: "off",
      graphs: "off",
    });
    // Two away from all that is known: the rows stay where they are, with what was chosen.
    const found = Object.fromEntries(rows.value.map(({ key, current }) => [key, current]));
    expect(found).toMatchObject({ attention: "sdpa", fused_kernels: "off", gemv: "off" });
    release();
  });
});

test("an address holds what differs from the run, and of another machine everything", () => {
  show(RUN);
  expect(setOf({ ...own, chunked_prefill: "512", kv_cache: "off" }, now())).toBe("kv_cache:off");
  show(RUN, { machine: "h100" });
  expect(setOf({ attention: "flash", kv_cache: "off" }, now())).toBe("attention:flash,kv_cache:off");
});

describe("what a value would do", () => {
  const seconds = (attention: string, length: number): number =>
    Object.values(
      toySeconds({ scope: "decode", length, batch: 1, numOutputs: 128 }, { ...own, attention }, "cpu"),
    ).reduce((sum, s) => sum + s, 0);

  test("is the modelled time with it by the modelled time without, at the cursor", async () => {
    engine({ ...own, chunked_prefill: "512" });
    for (const length of [64, 4096]) {
      show(RUN, { length });
      effectOf("attention", "naive");
      await settle();
      const effect = effectOf("attention", "naive");
      const [here, there] = [seconds("flash", length), seconds("naive", length)];
      expect(effect?.ratio).toBeCloseTo(there / here, 9);
      expect(effect?.ms).toBeCloseTo(1e3 * (there - here), 9);
      expect(effect?.kind).toBe("calibrated");
    }
  });

  test("is not known of what the model does not know, nor of what holds", async () => {
    show(RUN);
    engine({ ...own, chunked_prefill: "512" });
    effectOf("attention", "naive");
    await settle();
    expect(effectOf("batching", "static")).toBeNull();
    expect(effectOf("attention", "flash")).toBeNull();
  });

  test("is not told of a picture whose own answer is on its way", async () => {
    show(FAR, { output: 55 }); // which nobody has asked for yet
    effectOf("attention", "naive");
    await settle();
    expect(effectOf("attention", "naive")?.ratio).toBeGreaterThan(1);
    choose("picture", "attention", "naive");
    expect(side().answer?.phase).toBe("decode"); // it is drawn already
    // With all values beside it, that of before among them.
    const row = rows.value.find(({ key }) => key === "attention");
    expect(row?.values.map(({ value }) => value).sort()).toEqual(["flash", "naive", "sdpa"]);
    expect(effectOf("attention", "flash")).toBeNull();
    await settle();
    expect(effectOf("attention", "flash")?.ratio).toBeLessThan(1);
  });
});

describe("a side", () => {
  test("is the run's own while it has these switches, and the model's with others", async () => {
    show(RUN);
    expect(side()).toMatchObject({ isMeasured: true, budget: { kind: "recorded" } });
    show(RUN, { set: "attention:naive", output: 77 }); // which nobody has asked for yet
    expect(sideOf("A", now())).toEqual({ lacking: "Working out what these switches come to …" });
    await settle();
    const found = side();
    expect(found).toMatchObject({
      isMeasured: false,
      budget: { kind: "calibrated", how: "attention naive" },
    });
    expect(found.switches.attention).toBe("naive");
    expect(found.budget.columns[0]?.length).toBe(64); // where the run begins
  });

  test("on another machine begins before any run does", async () => {
    show(RUN, { machine: "h100" });
    sideOf("A", now());
    await settle();
    expect(side()).toMatchObject({ isMeasured: false, budget: { kind: "spec", how: "" } });
    expect(side().budget.columns[0]?.length).toBe(16);
  });

  test("of a phase that was not measured is not drawn: its machine was not fitted to it", async () => {
    const half = { ...RUN, cells: RUN.cells.filter(({ phase }) => phase === "decode") };
    show(half, { phase: "prefill", set: "attention:naive" });
    await settle();
    expect(sideOf("A", now())).toBeNull();
  });

  test("is compared with its like: measured with measured, or modelled with modelled", async () => {
    show(RUN);
    const then = now();
    show(RUN, { set: "attention:naive" });
    pairOf(then, now());
    await settle();
    pairOf(then, now());
    await settle();
    expect(pairOf(then, now())?.map(({ isMeasured }) => isMeasured)).toEqual([false, false]);
    show(RUN, { set: "attention:naive" }, [like("0a", { attention: "naive" })]);
    expect(pairOf(then, now())?.map(({ isMeasured }) => isMeasured)).toEqual([true, true]);
  });

  test("that was not measured and cannot be modelled is nothing, while the run has these switches", async () => {
    reply = () => Response.json({ error: { message: "no room for a prompt" } }, { status: 400 });
    for (const set of ["", "attention:naive"]) {
      show(RUN, { phase: "request", output: 9000, set });
      await settle();
      const lacking = { lacking: "These switches cannot be modelled: no room for a prompt" };
      expect(sideOf("A", now())).toEqual(set ? lacking : null);
    }
  });

  test("without a server says so", () => {
    offline.value = true;
    show(RUN, { set: "attention:sdpa,kv_cache:off,fused_kernels:off" });
    expect(sideOf("A", now())).toEqual({
      lacking: "There is no server to ask what these switches come to.",
    });
  });
});
