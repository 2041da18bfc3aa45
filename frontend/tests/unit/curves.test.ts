// @vitest-environment node
//
// What the server sent as a curve, drawn like what was measured; and which curve holds for what.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Curve, Curves } from "../../src/api/types";
import { budgetOfCurve, curveFor, difference, holdsFor, secondsAt } from "../../src/data/curves";
import { stopsOf } from "../../src/data/stops";
import { body } from "../calibrated";
import { TOY_STAGES, toyCurves } from "../toy";

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** An answer of one curve, made of these seconds by length and stage. */
function answer(
  seconds: readonly (readonly number[])[],
  band: readonly [number, number] = [0.8, 1.5],
): Curves {
  const { curves, ...rest } = toyCurves(body());
  const [asked] = curves as [Curve];
  const lengths = seconds.map((_, place) => 64 * 2 ** place);
  return { ...rest, band, lengths, curves: [{ ...asked, seconds }] };
}

describe("a curve as a budget", () => {
  const second = fc.double({ min: 1e-7, max: 10, noNaN: true });
  const rows = fc.array(fc.tuple(...TOY_STAGES.map(() => second)), { minLength: 1, maxLength: 4 });
  const ends = fc.tuple(
    fc.double({ min: 0.2, max: 1, noNaN: true }),
    fc.double({ min: 1, max: 5, noNaN: true }),
  );

  test.each(["groups", "stages"] as const)("is all of the time, with its band: %s", (detail) => {
    fc.assert(
      fc.property(rows, ends, (seconds, band) => {
        const curves = answer(seconds, band);
        const { columns, parts } = budgetOfCurve(curves, curves.curves[0]!, detail);
        columns.forEach(({ wall, amounts }, place) => {
          const total = 1e3 * sum(seconds[place] ?? []);
          expect(wall.value / total).toBeCloseTo(1, 9);
          expect(wall.interval.lo / total).toBeCloseTo(band[0], 9);
          expect(wall.interval.hi / total).toBeCloseTo(band[1], 9);
          expect([...amounts.keys()]).toEqual(parts.map(({ key }) => key));
          const figures = [...amounts.values()];
          expect(sum(figures.map(({ share }) => share.value))).toBeCloseTo(1, 9);
          for (const { ms, share } of figures) {
            expect(ms.interval.lo).toBeLessThanOrEqual(ms.value * (1 + 1e-12));
            expect(ms.interval.hi).toBeGreaterThanOrEqual(ms.value * (1 - 1e-12));
            // A share is least where its stage is fast and the others slow.
            expect(share.interval.lo).toBeLessThanOrEqual(share.value + 1e-12);
            expect(share.interval.hi).toBeGreaterThanOrEqual(share.value - 1e-12);
            expect(share.interval.hi).toBeLessThanOrEqual(1 + 1e-12);
          }
        });
      }),
    );
  });

  test("sums the stages of a group up", () => {
    const seconds = TOY_STAGES.map((_, place) => 1e-3 * (place + 1)); // 1, 2, 3 … 10 ms
    const curves = answer([seconds], [1, 1]);
    const [column] = budgetOfCurve(curves, curves.curves[0]!, "groups").columns;
    const ms = (key: string): number => column?.amounts.get(key)?.ms.value ?? NaN;
    // qkv 4, o_proj 7, mlp 8, lm_head 9; embed 2, norm 3, kv_write 5, sample 10.
    expect(["attention", "matrices", "small", "host"].map((key) => Math.round(ms(key)))).toEqual([
      6, 28, 20, 1,
    ]);
    expect(column?.amounts.has("other")).toBe(false); // no time that no stage claims
  });

  test("is as trustworthy as its machine, and says what makes it another setting", () => {
    const calibrated = toyCurves(body());
    const found = budgetOfCurve(calibrated, calibrated.curves[0]!, "groups", "kv_cache off");
    expect(found).toMatchObject({ kind: "calibrated", how: "kv_cache off", phase: "decode", batch: 1 });
    const { hardware: _, ...elsewhere } = body();
    const spec = toyCurves({ ...elsewhere, machine: "h100" });
    const column = budgetOfCurve(spec, spec.curves[0]!, "groups").columns[0];
    expect(column?.wall).toMatchObject({ kind: "spec", n: 0, interval: { how: "90 % band" } });
  });

  test("gives the cursor the measured lengths, and behind them round ones", () => {
    const curves = toyCurves(body({ lengths: [64, 100, 4096] }));
    const model = budgetOfCurve(curves, curves.curves[0]!, "groups");
    const measured = {
      ...model,
      columns: model.columns.filter(({ length }) => [64, 100, 4096].includes(length)),
    };
    const stops = stopsOf(measured, model);
    expect(stops.map(({ length }) => length)).toEqual([64, 100, 4096, 8192]);
    expect(stops.map((stop) => [stop.measured !== null, stop.modelled !== null])).toEqual([
      [true, true],
      [true, true],
      [true, true],
      [false, true],
    ]);
    expect(stopsOf(measured, null)).toHaveLength(3);
  });
});

test("seconds are those of the nearest length, by ratio", () => {
  const curves = answer([[1], [2], [4]].map(([s]) => TOY_STAGES.map(() => (s ?? 0) / 10)));
  const at = (length: number): number => Math.round(secondsAt(curves, curves.curves[0]!, length));
  expect([1, 90, 91, 180, 182, 1e6].map(at)).toEqual([1, 1, 2, 2, 4, 4]);
});

describe("the curve for some switches", () => {
  const known = toyCurves(body());
  const [asked] = known.curves as [Curve];

  test("is one that holds for all of them; what the model does not know makes no difference", () => {
    expect(holdsFor(asked, { ...asked.switches, batching: "static" })).toBe(true);
    expect(curveFor([known], { ...asked.switches, sampler: "sort" })).toEqual([known, asked]);
  });

  test("or the one that is one switch away", () => {
    const naive = curveFor([known], { ...asked.switches, attention: "naive" });
    expect(naive?.[1]).toMatchObject({ switch: "attention", value: "naive" });
  });

  test("even before anybody has said what that switch takes along", () => {
    const on = toyCurves(body({ switches: { overlap: "on" } }));
    const [middle] = on.curves as [Curve];
    const found = curveFor([on], { ...middle.switches, kv_cache: "off" }); // and overlap still on
    expect(found?.[1]).toMatchObject({ switch: "kv_cache", switches: { kv_cache: "off", overlap: "off" } });
  });

  test("or none, where two differ", () => {
    expect(curveFor([known], { ...asked.switches, attention: "naive", kv_cache: "off" })).toBeNull();
    expect(curveFor([], asked.switches)).toBeNull();
    expect(curveFor([known], { ...asked.switches, attention: "psychic" })).toBeNull();
  });

  test("is exact rather than near, whichever answer is older", () => {
    const naive = toyCurves(body({ switches: { attention: "naive" } }));
    const wanted = { ...asked.switches, attention: "naive" };
    for (const answers of [
      [known, naive],
      [naive, known],
    ])
      expect(holdsFor(curveFor(answers, wanted)![1], wanted)).toBe(true);
    const exact = { ...known, curves: [asked] };
    expect(curveFor([exact, naive], wanted)?.[0]).toBe(naive);
  });
});

test("a difference is in words, of what both sides say", () => {
  const from = { kv_cache: "on", attention: "flash", sampler: "sort" };
  expect(difference(from, { kv_cache: "off", attention: "naive", weights: "dense" })).toBe(
    "kv_cache off, attention naive",
  );
  expect([difference(from, from), difference({}, from)]).toEqual(["", ""]);
});
