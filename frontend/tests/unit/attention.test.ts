import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { levelOf, LEVELS, pathsOf, unseenPath } from "../../src/chart/matrix";
import { distances, firstSeen, inBytes, meanFirst, shown, small } from "../../src/data/attention";
import { fixed, sizeWords, skippedOf, span, stepOf, told, verdict, visitsOf } from "../../src/data/flash";
import { lookedAt, tokensOf } from "../looked";

/** Cells that a path of rectangles covers, in units of `cell`. */
function areaOf(path: string, cell: number): number {
  const rectangles = [...path.matchAll(/M([\d.]+) [\d.]+(?:h([\d.]+)|H([\d.]+))v([\d.]+)/g)];
  const area = rectangles.reduce((sum, [, x, width, end, height]) => {
    return sum + (width ? Number(width) : Number(end) - Number(x)) * Number(height);
  }, 0);
  return Math.round(area / cell ** 2);
}

describe("a matrix as paths", () => {
  test("covers every cell that weighs anything, once", () => {
    const row = fc.array(fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })), {
      maxLength: 20,
    });
    fc.assert(
      fc.property(fc.array(row, { maxLength: 12 }), (cells) => {
        const place = { left: 40, top: 4, cell: 8 };
        const drawn = pathsOf(cells, place).reduce((sum, { path }) => sum + areaOf(path, 8), 0);
        expect(drawn).toBe(cells.flat().filter((weight) => levelOf(weight) > 0).length);
      }),
    );
  });

  test("of what is unseen, covers the rest", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 50 }), (count, window) => {
        let expected = 0;
        for (let query = 0; query < count; query += 1)
          expected += count - 1 - query + Math.min(firstSeen(query, window), query);
        expect(areaOf(unseenPath(count, 1, window, { left: 40, top: 4, cell: 8 }), 8)).toBe(expected);
      }),
    );
  });

  test("levels rise with the weight", () => {
    expect([0, 0.001, 0.01, 0.25, 1].map(levelOf)).toEqual([0, 0, 1, 6, LEVELS]);
  });
});

describe("words", () => {
  test("a token shows its blanks", () => {
    expect(["␣the", "⏎", "\\xc3"]).toEqual([" the", "\n", "bytes:\\xc3"].map(shown));
  });

  test("bytes and small numbers", () => {
    expect([0, 999, 1600, 1310720, 603979776, 1.2e12].map(inBytes)).toEqual([
      "0 B", "999 B", "1.6 kB", "1.31 MB", "604 MB", "1.2 TB",
    ]); // prettier-ignore
    expect([0, 0.0039, 4.9e-4, 1.2e-11].map(small)).toEqual(["0", "0.0039", "4.9 × 10⁻⁴", "1.2 × 10⁻¹¹"]);
    expect([-0.001, -0.8, 1].map((value) => fixed(value))).toEqual(["0.00", "−0.80", "1.00"]);
  });

  test("distances and spans", () => {
    expect(distances([0, 1, 2, 4, 8])).toEqual(["0", "1", "2–3", "4–7", "8 +"]);
    expect(distances([0])).toEqual(["0"]);
    expect([span([0, 4]), span([4, 5])]).toEqual(["1–4", "5"]);
    expect(meanFirst([1, 0.2, 0.4])).toBeCloseTo(0.3);
    expect(meanFirst([1])).toBe(1);
  });
});

describe("the walk over tiles", () => {
  const text = "a b c d e f g h i j k l m n";
  const view = lookedAt({ text, layer: 5, head: 1, tiles: true, block_m: 4, block_n: 2, row: 9 });
  const flash = view?.flash;
  if (!view || !flash) throw new Error("nothing was looked at");
  const visits = visitsOf(flash);

  test("leaves out what is behind the diagonal and before the window", () => {
    const { after, before } = skippedOf(flash);
    expect(after).toBeGreaterThan(0);
    expect(before).toBeGreaterThan(0);
    expect(visits.length + after + before).toBe(flash.tiles.length);
    expect(visits[stepOf(visits, 9)]?.tile.queries).toEqual([8, 12]);
    expect(stepOf(visits, 999)).toBe(0);
  });

  test("tells every step of some query, and never a number that is none", () => {
    for (const visit of visits) expect(told(flash, visit)).toMatch(/^Queries .* meet keys .*\. .*\.$/);
    for (const visit of visits) expect(told(flash, visit)).not.toMatch(/NaN|undefined|Infinity|null/);
  });

  test("ends in plain softmax", () => {
    const weights = view.matrix.max[9] ?? [];
    const expected = weights.reduce((sum, weight, key) => sum + weight * Math.cos(key), 0);
    expect(flash.course.at(-1)?.partial[0]).toBeCloseTo(expected, 9);
  });

  test("says where a tile's size comes from, and what it costs", () => {
    expect(sizeWords({ ...view, flash })).toBe(
      "4 queries by 2 keys: your choice; flash on cpu does not say which tiles it takes.",
    );
    const kernel = { lines: 128, queries: 42, keys: 64 };
    expect(sizeWords({ ...view, flash: { ...flash, kernel, source: "kernel" } })).toContain(
      "128 lines of 3 heads",
    );
    expect(verdict({ ...flash, bytes_tiled: [100], bytes_written: [250] })).toContain("2.5 times as much");
    expect(verdict({ ...flash, bytes_tiled: [300], bytes_written: [250] })).toContain("too small to pay");
  });

  test("has the words of the text as tokens", () =>
    expect(tokensOf("a b").map((token) => token.text)).toEqual(["a", " b"]));
});
