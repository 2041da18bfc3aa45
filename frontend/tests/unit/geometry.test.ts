import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bandsOf, frameOf, lengthTicks, scalesOf, spread } from "../../src/chart/geometry";
import { budgetOf, type Budget } from "../../src/data/budget";
import { HERE, sampleRun } from "../sample";

const frame = frameOf(800);

function budget(lengths?: readonly number[]): Budget {
  const run = lengths ? sampleRun({ id: "0", seed: 1, lengths }) : HERE;
  const found = budgetOf({ run, kind: "measured", answers: [] }, "decode", 1, "stages");
  if (!found) throw new Error("the sample has no decode cells");
  return found;
}

describe("labels", () => {
  test("keep their distance and their order within the frame", () => {
    const wanted = fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 20 });
    fc.assert(
      fc.property(wanted, (values) => {
        const sorted = [...values].sort((a, b) => a - b);
        const placed = spread(sorted, 15, 0, 400);
        placed.forEach((y, index) => {
          expect(y).toBeGreaterThanOrEqual(0);
          expect(y).toBeLessThanOrEqual(400);
          if (index > 0) expect(y - (placed[index - 1] ?? 0)).toBeGreaterThanOrEqual(15);
        });
      }),
    );
  });
});

describe("bands", () => {
  test("lie within the frame, one for each part", () => {
    const bands = bandsOf(budget(), "share", scalesOf([budget()], "share", frame));
    expect(bands.map(({ part }) => part.key)).toEqual(budget().parts.map(({ key }) => key));
    for (const { area } of bands) expect(area).not.toMatch(/NaN|Infinity/);
  });

  test("of a single length are bars, not nothing", () => {
    const one = budget([512]);
    const [attention] = bandsOf(one, "ms", scalesOf([one], "ms", frame));
    expect(attention?.area).toMatch(new RegExp(`^M${frame.left},.*L${frame.right},`));
  });
});

test("marks on the length axis are powers of two with room between them", () => {
  const { x } = scalesOf([budget()], "share", frame);
  expect(lengthTicks(x, 56)).toEqual([64, 128, 256, 512, 1024, 2048, 4096]);
  expect(lengthTicks(x, 200)).toEqual([64, 512, 4096]);
});
