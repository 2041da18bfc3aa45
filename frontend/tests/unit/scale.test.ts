import fc from "fast-check";
import { expect, test } from "vitest";
import { linearScale, logScale, niceEnds } from "../../src/chart/scale";

const length = fc.double({ min: 1, max: 1e6, noNaN: true });

test("there and back again", () => {
  fc.assert(
    fc.property(length, (value) => {
      for (const scale of [linearScale([0, 1e6], [400, 20]), logScale([1, 1e6], [48, 700])])
        expect(scale.invert(scale(value)) / value).toBeCloseTo(1, 6);
    }),
  );
});

test("ends lie at ends, and a ratio takes the same room everywhere", () => {
  const x = logScale([64, 4096], [0, 600]);
  expect([64, 128, 512, 4096].map((value) => Math.round(x(value)))).toEqual([0, 100, 300, 600]);
  expect(linearScale([0, 10], [400, 0])(2.5)).toBe(300);
});

const ticks = (least: number, most: number): number[] => {
  const ends = niceEnds([least, most], 4);
  return linearScale(ends, [0, 1]).ticks(4);
};

test("an axis ends at ticks that hold all", () => {
  const most = fc.double({ min: 1e-6, max: 1e6, noNaN: true });
  const least = fc.oneof(fc.constant(0), fc.double({ min: -1e6, max: -1e-6, noNaN: true }));
  fc.assert(
    fc.property(least, most, (low, high) => {
      const found = ticks(low, high);
      const slack = 1e-9 * (high - low);
      expect(found[0]).toBeLessThanOrEqual(low + slack);
      expect(found.at(-1)).toBeGreaterThanOrEqual(high - slack);
      expect(found.length).toBeGreaterThanOrEqual(3);
      expect(found.length).toBeLessThanOrEqual(7);
    }),
  );
  expect(ticks(0, 9.3)).toEqual([0, 2, 4, 6, 8, 10]);
  expect(ticks(0, 0.29)).toEqual([0, 0.1, 0.2, 0.3]);
  expect(ticks(-3, 9)).toEqual([-5, 0, 5, 10]);
});

test("a scale without room is a place", () => {
  expect(niceEnds([0, 0], 4)).toEqual([0, 1]);
  expect(linearScale([5, 5], [10, 90])(5)).toBe(10);
});
