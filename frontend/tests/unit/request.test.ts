import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { batchesOf, type Loaded } from "../../src/data/budget";
import { reachOf, requestOf, weightsOf } from "../../src/data/request";
import type { Cell, RunFile } from "../../src/data/runfile";
import { HERE } from "../sample";

function cell(phase: Cell["phase"], length: number, attention: number[], mlp: number[]): Cell {
  const wall_ns = attention.map((ns, block) => ns + (mlp[block] ?? 0));
  return {
    phase,
    length,
    batch: 1,
    num_steps: 1,
    wall_ns,
    timed_wall_ns: wall_ns,
    stages_ns: { attention, mlp, other: wall_ns.map(() => 0) },
  };
}

// Attention grows with the length, in the second block twice as fast; the rest stays.
const RUN: RunFile = {
  ...HERE,
  cells: [
    cell("decode", 16, [16e6, 32e6], [10e6, 10e6]),
    cell("decode", 10, [10e6, 20e6], [10e6, 10e6]),
    cell("prefill", 10, [5e6, 6e6], [7e6, 7e6]),
    cell("prefill", 16, [9e6, 9e6], [9e6, 9e6]),
    cell("prefill", 4, [1e6, 1e6], [1e6, 1e6]),
  ],
};
const loaded: Loaded = { run: RUN, kind: "recorded", answers: [] };

describe("a whole request", () => {
  test("is its prompt and the decode steps behind it, added up by hand", () => {
    // Prompt 10, four tokens of output: the prompt's own, and steps that see 11, 12 and 13.
    const budget = requestOf(loaded, 1, 4, "stages");
    expect(budget).toMatchObject({ phase: "request", kind: "recorded", how: "summed and interpolated" });
    const [column] = budget?.columns ?? [];
    expect(column?.length).toBe(10);
    const attention = [5 + 11 + 12 + 13, 6 + 22 + 24 + 26];
    const wall = attention.map((ms) => ms + 7 + 3 * 10);
    expect(column?.amounts.get("attention")?.ms.interval).toMatchObject({
      lo: attention[0],
      hi: attention[1],
    });
    expect(column?.wall).toMatchObject({
      value: ((wall[0] ?? 0) + (wall[1] ?? 0)) / 2,
      n: 2,
      kind: "recorded",
    });
    const shares = attention.map((ms, block) => ms / (wall[block] ?? 0));
    expect(column?.amounts.get("attention")?.share.interval.lo).toBeCloseTo(Math.min(...shares), 12);
    expect(column?.amounts.get("attention")?.share.interval.hi).toBeCloseTo(Math.max(...shares), 12);
  });

  test("of one token is the prompt alone", () => {
    const budget = requestOf(loaded, 1, 1, "stages");
    expect(budget?.columns.map(({ length, wall }) => [length, wall.value])).toEqual([
      [4, 2],
      [10, 12.5],
      [16, 18],
    ]);
  });

  test("is not drawn where its steps leave the measured ones", () => {
    expect(reachOf(RUN, 1, 4)).toMatchObject({ tooShort: [4], tooLong: [16], least: 10, most: 16 });
    expect(requestOf(loaded, 1, 7, "stages")?.columns).toHaveLength(1); // its last step sees 16
    expect(requestOf(loaded, 1, 8, "stages")).toBeNull();
  });

  test("takes both phases at its batch", () => {
    expect(batchesOf(RUN, "request")).toEqual([1]);
    const prompts = RUN.cells.filter(({ phase }) => phase === "prefill");
    expect(batchesOf({ ...RUN, cells: prompts }, "request")).toEqual([]);
    expect(requestOf({ ...loaded, run: { ...RUN, cells: prompts } }, 1, 1, "stages")).toBeNull();
  });

  test("uses as many blocks as all its cells have", () => {
    const cells = RUN.cells.map((one) => (one.length === 16 ? cell(one.phase, 16, [16e6], [10e6]) : one));
    expect(requestOf({ ...loaded, run: { ...RUN, cells } }, 1, 4, "stages")?.columns[0]?.wall.n).toBe(1);
  });
});

describe("weights", () => {
  test("add up a straight line exactly", () => {
    const lengths = fc.uniqueArray(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(lengths, fc.nat(500), fc.nat(500), (drawn, a, b) => {
        const sorted = drawn.sort((x, y) => x - y);
        const [least = 0, most = 0] = [sorted[0], sorted.at(-1)];
        const clamp = (value: number): number => Math.min(Math.max(value, least), most);
        const [first, last] = [clamp(Math.min(a, b)), clamp(Math.max(a, b))];
        const weights = weightsOf(sorted, first, last);
        const total = weights.reduce(
          (sum, weight, index) => sum + weight * (3 + 2 * (sorted[index] ?? 0)),
          0,
        );
        const wanted = Array.from({ length: last - first + 1 }, (_, i) => 3 + 2 * (first + i));
        expect(total).toBeCloseTo(
          wanted.reduce((sum, value) => sum + value, 0),
          6,
        );
        for (const weight of weights) expect(weight).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  test("are none for no step", () => expect(weightsOf([10, 16], 11, 10)).toEqual([0, 0]));
});
