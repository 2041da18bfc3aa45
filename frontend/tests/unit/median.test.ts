import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { medianOf, rankOf } from "../../src/data/median";
import { Figure, KINDS, weakest } from "../../src/data/provenance";

const samples = fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 40 });

describe("the median", () => {
  test("lies in its interval, which lies in the samples", () => {
    fc.assert(
      fc.property(samples, (values) => {
        const { value, interval } = medianOf(values);
        expect(interval.lo).toBeLessThanOrEqual(value);
        expect(interval.hi).toBeGreaterThanOrEqual(value);
        expect(interval.lo).toBeGreaterThanOrEqual(Math.min(...values));
        expect(interval.hi).toBeLessThanOrEqual(Math.max(...values));
      }),
    );
  });

  test("has the ranks of the tables", () => {
    // The greatest k with 2·P(B < k) ≤ 5 %, as tabulated for the sign test.
    expect([1, 5, 6, 8, 9, 10, 12, 15, 20, 25, 30].map(rankOf)).toEqual([0, 0, 1, 1, 2, 2, 3, 4, 6, 8, 10]);
  });

  test("says when there are too few samples for 95 %", () => {
    expect(medianOf([3, 1, 2]).interval).toEqual({ lo: 1, hi: 3, how: "least to most" });
    expect(medianOf([1, 2, 3, 4, 5, 6]).interval.how).toBe("95 %");
  });
});

describe("a figure", () => {
  test("cannot be made without its origin", () => {
    // @ts-expect-error a literal of the same shape is no figure
    const forged: Figure = { value: 1, interval: { lo: 1, hi: 1, how: "95 %" }, n: 1, kind: "measured" };
    expect(forged).toBeDefined();
  });

  test("of two runs is worth what the weaker one is", () => {
    const a = Figure.median([1, 2, 3], "measured");
    const b = Figure.median([5, 6, 7], "spec");
    const change = Figure.difference(b, a);
    expect(change).toMatchObject({ value: 4, kind: "spec", interval: { lo: 2, hi: 6, how: "bounds" } });
  });

  test("takes the weakest of all kinds", () => {
    expect(weakest(["measured", "calibrated", "recorded"])).toBe("calibrated");
    expect(weakest([...KINDS])).toBe("spec");
  });
});
