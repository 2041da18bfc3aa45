// @vitest-environment happy-dom

import { expect, test } from "vitest";
import { HEADER, tidy } from "../../src/export/tidy";
import { HERE, THERE } from "../sample";

test("the table holds every figure once, with its origin", async () => {
  const text = await tidy(
    [
      { run: HERE, kind: "measured", answers: [] },
      { run: { ...THERE, model: { name: 'odd, "quoted"' } }, kind: "recorded", answers: [] },
    ],
    128,
  );
  const lines = text.trimEnd().split("\r\n");
  const stages = Object.keys(HERE.cells[0]?.stages_ns ?? {}).length;
  expect(lines[0]).toBe(HEADER.join(","));
  // All cells, and the requests whose output the measured decode steps reach: not those of 4,096.
  const requests = 2 * (HERE.cells.length / 2 - 1);
  expect(lines.length - 1).toBe((HERE.cells.length + THERE.cells.length + requests) * (2 * stages + 1));
  expect(lines.filter((line) => line.includes(",request,1,2048,128,wall,ms,"))).toHaveLength(2);
  expect(lines.filter((line) => line.includes(",measured,summed and interpolated,"))).toHaveLength(
    (requests / 2) * (2 * stages + 1),
  );
  expect(lines.filter((line) => line.startsWith(HERE.id)).every((line) => line.includes(",measured,"))).toBe(
    true,
  );
  expect(lines.at(-1)).toContain('"odd, ""quoted"""');
});
