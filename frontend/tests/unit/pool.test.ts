import fc from "fast-check";
import { expect, test } from "vitest";
import { columnsIn, GUTTER, planOf } from "../../src/chart/pool";
import { colorOf } from "../../src/chart/PoolChart";

test("every held block has its place, once, and what is not drawn is said", () => {
  const pools = fc.record({
    numBlocks: fc.integer({ min: 1, max: 40_000 }),
    columns: fc.integer({ min: 4, max: 30 }),
    held: fc.array(fc.nat(), { maxLength: 60 }),
  });
  fc.assert(
    fc.property(pools, ({ numBlocks, columns, held }) => {
      const wanted = held.map((block) => block % numBlocks);
      const { lines, left } = planOf(wanted, numBlocks, columns);
      const drawn = lines.flatMap((line) => (line.type === "row" ? line.blocks : []));
      const said = lines.reduce((sum, line) => sum + (line.type === "gap" ? line.to - line.from + 1 : 0), 0);
      expect(new Set(drawn).size).toBe(drawn.length);
      if (left === 0) {
        for (const block of wanted) expect(drawn).toContain(block);
        expect(drawn.length + said).toBe(numBlocks);
      }
      expect(lines.map(({ y }) => y)).toEqual(lines.map(({ y }) => y).sort((a, b) => a - b));
    }),
  );
});

test("a phone has room for four cells at least", () => {
  expect(columnsIn(0)).toBe(4);
  expect(columnsIn(GUTTER + 34 * 8 + 4 * 7)).toBe(8);
});

/** Relative luminance by WCAG. */
function luminance(color: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(color.slice(at, at + 2), 16) / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

test("every colour has 3:1 against both pages", () => {
  for (let sequence = 1; sequence <= 8; sequence++)
    for (const page of ["#ffffff", "#17191e"]) {
      const [low, high] = [luminance(colorOf(sequence)), luminance(page)].sort((a, b) => a - b) as [
        number,
        number,
      ];
      expect((high + 0.05) / (low + 0.05)).toBeGreaterThan(3);
    }
});
