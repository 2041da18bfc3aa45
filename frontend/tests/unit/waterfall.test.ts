import { describe, expect, test } from "vitest";
import { budgetFrom, type Budget } from "../../src/data/budget";
import { waterfallOf, type Waterfall } from "../../src/data/waterfall";
import type { Kind } from "../../src/data/provenance";

function budget(stages_ns: Record<string, number[]>, kind: Kind): Budget {
  const wall_ns = (stages_ns.attention ?? []).map((_, block) =>
    Object.values(stages_ns).reduce((sum, ns) => sum + (ns[block] ?? 0), 0),
  );
  const found = budgetFrom(
    [{ length: 64, wall_ns, timed_wall_ns: wall_ns, stages_ns }],
    { phase: "decode", batch: 1, kind, how: "" },
    "stages",
  );
  if (!found) throw new Error("no cell");
  return found;
}

function between(a: Budget, b: Budget): Waterfall {
  const [left] = a.columns;
  const [right] = b.columns;
  if (!left || !right) throw new Error("no column");
  return waterfallOf([a.parts, b.parts], [left, right]);
}

const ms = (...values: number[]): number[] => values.map((value) => value * 1e6);

describe("a waterfall", () => {
  const a = budget({ attention: ms(5, 5, 5), mlp: ms(10, 10, 10), other: ms(1, 1, 1) }, "measured");
  const b = budget(
    { attention: ms(2, 2, 2), mlp: ms(11, 11, 11), draft: ms(3, 3, 3), other: ms(0, 0, 0) },
    "recorded",
  );

  test("goes from the first wall time to the second, a step for each part of either", () => {
    const { start, end, change, steps } = between(a, b);
    expect([start.value, end.value, change.value]).toEqual([16, 16, 0]);
    expect(steps.map(({ part, from, to }) => [part.key, from, to])).toEqual([
      ["attention", 16, 13],
      ["mlp", 13, 14],
      ["draft", 14, 17],
      ["other", 17, 16],
    ]);
  });

  test("is worth what the weaker run is, and a part that one lacks took no time there", () => {
    const { steps } = between(a, b);
    for (const { change } of steps) expect(change.kind).toBe("recorded");
    const draft = steps.find(({ part }) => part.key === "draft");
    expect(draft?.one).toBeUndefined();
    expect(draft?.change).toMatchObject({ value: 3, n: 3, interval: { lo: 3, hi: 3, how: "bounds" } });
    expect(between(b, a).steps.find(({ part }) => part.key === "draft")?.change.value).toBe(-3);
  });

  test("ends where it should, however the blocks are spread", () => {
    const odd = budget({ attention: ms(1, 2, 9), mlp: ms(4, 2, 0), other: ms(0, 0, 0) }, "measured");
    const { steps, end } = between(odd, a);
    expect(steps.at(-1)?.to).toBeCloseTo(end.value, 9);
    expect(steps.map(({ part }) => part.key)).toEqual(["attention", "mlp", "other"]);
  });
});
