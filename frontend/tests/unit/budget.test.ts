import { describe, expect, test } from "vitest";
import { budgetOf, middleHalf, nearest, type Loaded } from "../../src/data/budget";
import { checkRunFile } from "../../src/data/runfile";
import { allColors, partsOf } from "../../src/data/stages";
import { HERE, sampleRun } from "../sample";

const here: Loaded = { run: HERE, kind: "measured", answers: [] };

describe("a budget", () => {
  test("holds all the time there is, block by block", () => {
    for (const detail of ["groups", "stages"] as const) {
      const one = sampleRun({ id: "0", seed: 3, blocks: 1 });
      const budget = budgetOf({ ...here, run: one }, "decode", 1, detail);
      for (const column of budget?.columns ?? []) {
        const sum = [...column.amounts.values()].reduce((total, { ms }) => total + ms.value, 0);
        expect(sum).toBeCloseTo(column.wall.value, 9);
      }
    }
  });

  test("takes a share within a block: a slow block changes none", () => {
    const cell = {
      phase: "decode",
      length: 64,
      batch: 1,
      num_steps: 1,
      wall_ns: [100, 1000, 100],
      timed_wall_ns: [100, 1000, 100],
      stages_ns: { attention: [25, 250, 25], other: [75, 750, 75] },
    } as const;
    const budget = budgetOf({ ...here, run: { ...HERE, cells: [cell] } }, "decode", 1, "stages");
    expect(budget?.columns[0]?.amounts.get("attention")?.share).toMatchObject({
      value: 0.25,
      interval: { lo: 0.25, hi: 0.25 },
    });
  });

  test("shows a stage that this page has never heard of", () => {
    const cells = HERE.cells.map((cell) => ({
      ...cell,
      stages_ns: { ...cell.stages_ns, warp_drive: cell.wall_ns.map(() => 5) },
    }));
    for (const detail of ["groups", "stages"] as const) {
      const budget = budgetOf({ ...here, run: { ...HERE, cells } }, "decode", 1, detail);
      expect(budget?.parts.map(({ key }) => key).slice(-2)).toEqual(["warp_drive", "other"]);
    }
  });

  test("has attention on the axis and other on top", () => {
    expect(partsOf(["other", "mlp", "attention"], "stages").map(({ key }) => key)).toEqual([
      "attention",
      "mlp",
      "other",
    ]);
    expect(partsOf(["attention"], "groups").map(({ key }) => key)).toEqual(["attention", "other"]);
  });

  test("has shares that add up to 1 at every length, and times that add up to the wall", () => {
    for (const detail of ["groups", "stages"] as const)
      for (const column of budgetOf(here, "decode", 1, detail)?.columns ?? []) {
        const amounts = [...column.amounts.values()];
        expect(amounts.reduce((sum, { share }) => sum + share.value, 0)).toBeCloseTo(1, 12);
        expect(amounts.reduce((sum, { ms }) => sum + ms.value, 0)).toBeCloseTo(column.wall.value, 9);
        for (const { share } of amounts) expect(share.value).toBeGreaterThanOrEqual(0);
      }
  });

  test("takes the middle half of the blocks", () => {
    expect(middleHalf([5, 1, 3])).toEqual([2]);
    expect(middleHalf([4, 3])).toEqual([1, 0]);
    expect(middleHalf([9, 1, 5, 4, 8, 2, 7, 3, 6, 0]).length).toBe(6);
    expect(middleHalf([7])).toEqual([0]);
  });

  test("shares out the plain time as the timed run was shared out", () => {
    const cell = {
      phase: "decode",
      length: 64,
      batch: 1,
      num_steps: 1,
      wall_ns: [100],
      timed_wall_ns: [110],
      stages_ns: { attention: [110], other: [-10] },
    } as const;
    const budget = budgetOf({ ...here, run: { ...HERE, cells: [cell] } }, "decode", 1, "groups");
    const [column] = budget?.columns ?? [];
    expect(column?.amounts.get("other")?.share.value).toBe(0);
    expect(column?.amounts.get("attention")).toMatchObject({ ms: { value: 1e-4 }, share: { value: 1 } });
  });

  test("is null where the run has nothing", () => expect(budgetOf(here, "decode", 7, "stages")).toBeNull());

  test("finds the nearest length by ratio", () => {
    const columns = budgetOf(here, "decode", 1, "groups")?.columns ?? [];
    expect([1, 90, 91, 1500, 1e6].map((length) => columns[nearest(columns, length)]?.length)).toEqual([
      64, 64, 128, 2048, 4096,
    ]);
  });
});

test("a run file is checked to the last field", () => {
  expect(checkRunFile(HERE)).toBe(HERE);
});

// WCAG 1.4.11: parts of a picture against what is beside them, here the page's own colour.
test("every colour can be told from both pages", () => {
  const luminance = (color: string): number => {
    const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
      const part = parseInt(color.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a: string, b: string): number => {
    const [low = 0, high = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  for (const color of allColors()) {
    for (const page of ["#ffffff", "#17191e"])
      expect.soft(contrast(color, page), `${color} on ${page}`).toBeGreaterThanOrEqual(3);
  }
});
