import { expect, test } from "vitest";
import { HEADER, tidy } from "../../src/export/tidy";
import { HERE, THERE } from "../sample";

test("the table holds every figure once, with its origin", () => {
  const text = tidy([
    { run: HERE, kind: "measured", answers: [] },
    { run: { ...THERE, model: { name: 'odd, "quoted"' } }, kind: "recorded", answers: [] },
  ]);
  const lines = text.trimEnd().split("\r\n");
  const stages = Object.keys(HERE.cells[0]?.stages_ns ?? {}).length;
  expect(lines[0]).toBe(HEADER.join(","));
  expect(lines.length - 1).toBe((HERE.cells.length + THERE.cells.length) * (2 * stages + 1));
  expect(lines.filter((line) => line.startsWith(HERE.id)).every((line) => line.includes(",measured,"))).toBe(
    true,
  );
  expect(lines.at(-1)).toContain('"odd, ""quoted"""');
});
