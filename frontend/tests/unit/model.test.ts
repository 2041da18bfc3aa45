// @vitest-environment node
//
// The model computes what Python computes: golden/roofline.json holds its answers to questions drawn
// at random, written by `python tests/golden/make_roofline.py`.

import fc from "fast-check";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Answer, budgetsOf, crossing, grid, type Level, modelled } from "../../src/model/crossover";
import { isPeakName, PEAKS, specHardware } from "../../src/model/peaks";
import { effects, isOn, type Effect, without } from "../../src/model/switches";
import type { Phase } from "../../src/data/runfile";
import type { Bound, Cost, Hardware, ModelledStage } from "../../src/model/roofline";
import { boundOf, budget, MODELLED, secondsOf, shareOf } from "../../src/model/roofline";
import type { Choices, ModelSpec, Workload } from "../../src/model/work";
import {
  cut,
  DEFAULT_CHOICES,
  kvBytesPerToken,
  loadOf,
  numTokens,
  positionsRead,
  positionsSeen,
  weightBytes,
} from "../../src/model/work";

type Numbers = readonly [flops: number, bytes: number, launches: number, seconds: number, bound: Bound];

interface Question {
  readonly spec: ModelSpec;
  readonly choices: Choices;
  readonly hardware: Hardware;
}

interface Golden {
  readonly stages: readonly string[];
  readonly defaults: Choices;
  readonly machines: readonly {
    readonly name: string;
    readonly activation_bytes: number;
    readonly hardware: Hardware;
  }[];
  readonly budgets: readonly {
    readonly given: Question & { readonly workload: Workload };
    readonly found: {
      readonly stages: Readonly<Record<ModelledStage, Numbers>>;
      readonly seconds: number;
      readonly share: number;
      readonly tokens_per_row: number;
    };
  }[];
  readonly crossovers: readonly {
    readonly given: Question & { readonly workload: Omit<Workload, "length">; readonly limit: number };
    readonly found: Readonly<Record<Level, Answer>>;
  }[];
  readonly effects: readonly {
    readonly given: Question & { readonly workload: Omit<Workload, "length">; readonly limit: number };
    readonly found: Readonly<Record<string, Effect>>;
  }[];
}

const golden = JSON.parse(
  readFileSync(new URL("../golden/roofline.json", import.meta.url), "utf8"),
) as Golden;

const close = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));

/** Whole numbers that a double holds without loss are the same; beyond, the last digits may differ. */
const sameCount = (a: number, b: number): boolean => (Number.isSafeInteger(b) ? a === b : close(a, b));

function sameCost(cost: Cost, [flops, bytes, launches, seconds, bound]: Numbers): boolean {
  const counts = sameCount(cost.flops, flops) && cost.launches === launches;
  return counts && close(cost.bytes, bytes) && close(cost.seconds, seconds) && boundOf(cost) === bound;
}

describe("what Python finds", () => {
  test("of every budget", () => {
    expect(golden.budgets.length).toBeGreaterThanOrEqual(500);
    for (const [i, { given, found }] of golden.budgets.entries()) {
      const mine = budget(given.spec, given.workload, given.choices, given.hardware);
      const wrong: string[] = MODELLED.filter((stage) => !sameCost(mine.stages[stage], found.stages[stage]));
      if (!close(secondsOf(mine), found.seconds)) wrong.push("seconds");
      if (!close(shareOf(mine), found.share)) wrong.push("share");
      if (!close(mine.tokensPerRow, found.tokens_per_row)) wrong.push("tokens per row");
      expect(wrong, `budgets[${i}]`).toEqual([]);
    }
  });

  test("of every crossover", () => {
    expect(golden.crossovers.length).toBeGreaterThanOrEqual(50);
    for (const [i, { given, found }] of golden.crossovers.entries()) {
      const budgets = budgetsOf(given.spec, given.workload, given.choices, given.hardware);
      expect(modelled(budgets, given.hardware, given.limit), `crossovers[${i}]`).toEqual(found);
    }
  });

  test("of every switch that is turned off", () => {
    expect(golden.effects.length).toBeGreaterThanOrEqual(40);
    for (const [i, { given, found }] of golden.effects.entries()) {
      const { spec, workload, choices, hardware, limit } = given;
      const mine = effects((these) => budgetsOf(spec, workload, these, hardware), choices, limit);
      expect(mine.found, `effects[${i}]`).toEqual(found);
    }
  });

  test("of names, defaults and data sheets", () => {
    expect(MODELLED).toEqual(golden.stages);
    expect(DEFAULT_CHOICES).toEqual(golden.defaults);
    for (const { name, activation_bytes, hardware } of golden.machines) {
      expect(isPeakName(name) && specHardware(PEAKS[name], activation_bytes)).toEqual(hardware);
    }
    expect(isPeakName("abacus")).toBe(false);
  });
});

describe("a switch", () => {
  test("that is off takes along what does not work without it", () => {
    const graphed: Choices = { ...DEFAULT_CHOICES, graphs: "on", overlap: "on" };
    expect(without(graphed, "attention")).toEqual({ ...graphed, attention: "naive", graphs: "off" });
    expect(without(graphed, "kv_cache")).toEqual({ ...graphed, kv_cache: "off", overlap: "off" });
    expect(without(graphed, "chunked_prefill").chunked_prefill).toBe(0);
  });

  test("of the weights is known by their size", () => {
    const packed: Choices = { ...DEFAULT_CHOICES, weight_bytes: 0.5625, head_bytes: 1.0625 };
    expect([isOn(packed, "weights"), isOn(DEFAULT_CHOICES, "weights")]).toEqual([true, false]);
    expect(without(packed, "weights")).toEqual({ ...packed, weight_bytes: 2, head_bytes: 0 });
  });

  test("that no step's cost depends on is never on", () => {
    expect(["batching", "sampler", "abacus"].map((key) => isOn(DEFAULT_CHOICES, key))).toEqual([
      false,
      false,
      false,
    ]);
  });
});

describe("counting", () => {
  const llama = golden.budgets[0]!.given.spec;

  const seen = (at: number, window: number): number => Math.min(at + 1, window || at + 1);

  test("positions as one would by hand", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.nat(60), fc.nat(50), (numNew, prefix, window) => {
        const each = Array.from({ length: numNew }, (_, i) => seen(prefix + i, window));
        expect(positionsSeen(numNew, prefix, window)).toBe(each.reduce((a, b) => a + b));
        expect(positionsRead(numNew, prefix, window)).toBe(numNew - 1 + (each[0] ?? 0));
      }),
    );
    expect(positionsSeen(200_000, 0)).toBe(20_000_100_000); // beyond 32 bits
  });

  test("loses no token when it cuts", () => {
    const one = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most });
    fc.assert(
      fc.property(one(50), one(5), one(300), one(300), (length, batch, a, b) => {
        const end = length * batch;
        const [begin, stop] = [Math.min(a, b, end), Math.min(Math.max(a, b), end)];
        const workload: Workload = { phase: "prefill", length, batch, prefix: 0 };
        expect(numTokens(cut(begin, stop, workload))).toBe(stop - begin);
      }),
    );
  });

  test("which steps are replayed", () => {
    const launchings = (
      length: number,
      changes: Partial<Choices> = {},
      phase: Phase = "prefill",
    ): string[] => {
      const workload: Workload = { phase, length, batch: 1, prefix: 0 };
      const { groups } = loadOf(llama, workload, { ...DEFAULT_CHOICES, ...changes }, "cuda");
      return [...new Set(groups.map(({ launching }) => launching))];
    };
    expect([launchings(4096), launchings(4097)]).toEqual([["ready"], ["behind"]]);
    expect(launchings(10_000)).toEqual(["behind", "ready"]); // 8192 and 1808 tokens
    expect(launchings(4096, { graphs: "off" })).toEqual(["behind"]);
    expect(launchings(100_000, {}, "decode")).toEqual(["ready"]);
    expect(launchings(4097, { kv_cache: "off" }, "decode")).toEqual(["behind"]);
  });

  test("the sizes of Llama-3.1-8B", () => {
    expect(llama.vocab_size).toBe(128_256);
    expect(weightBytes(llama, DEFAULT_CHOICES)).toBe(2 * (6_979_321_856 + 128_256 * 4096));
    expect(kvBytesPerToken(llama, DEFAULT_CHOICES)).toBe(131_072);
  });
});

describe("a crossing", () => {
  test.each<[string, (length: number) => number, number | null, string]>([
    ["from the start", () => 0.3, 1, "already at 1"],
    ["never", () => 0.05, null, "never up to 1000"],
    ["found", (s) => s / (s + 900), 100, "found"],
    ["behind a dip", (s) => (s < 50 ? 0.2 : s / (s + 900)), 100, "found"],
    ["with a dip at the end", (s) => (s === 1000 ? 0 : 0.5), null, "never up to 1000"],
  ])("%s", (_, share, value, status) => {
    expect(crossing(share, 0.1, 1000)).toEqual({ value, status });
  });

  test("is looked for from 1 to the limit", () => {
    expect(grid(1)).toEqual([1]);
    expect(grid(8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(grid(131_072).at(-1)).toBe(131_072);
  });
});
