import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { budgetOf } from "../../src/data/budget";
import { stopsOf } from "../../src/data/stops";
import { curveOf, lengthsFor, type Machine, type Question } from "../../src/model/curve";
import { budget, MODELLED, secondsOf, shareOf } from "../../src/model/roofline";
import { CALIBRATION, MODELLED_RUN, SHAPE } from "../calibrated";

const machine: Machine = {
  spec: SHAPE,
  choices: CALIBRATION.choices,
  hardware: CALIBRATION.hardware,
  limit: SHAPE.context_length,
};
const { fastest, slowest } = CALIBRATION.hardware;
const decode: Question = { phase: "decode", batch: 1, numOutputs: 128 };
const msOf = (phase: "decode" | "prefill", length: number): number =>
  1e3 * secondsOf(budget(SHAPE, { phase, batch: 1, length, prefix: 0 }, machine.choices, machine.hardware));

describe("a modelled budget", () => {
  test("says what the model says, with its band", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8192 }),
        fc.constantFrom("decode", "prefill"),
        (length, phase) => {
          const [column] = curveOf(machine, { ...decode, phase }, [length], "stages").columns;
          const found = budget(
            SHAPE,
            { phase, batch: 1, length, prefix: 0 },
            machine.choices,
            machine.hardware,
          );
          const amount = column?.amounts.get("attention");
          expect(column?.wall.value).toBeCloseTo(1e3 * secondsOf(found), 9);
          expect(amount?.share.value).toBeCloseTo(shareOf(found), 12);
          expect(amount?.ms.interval).toEqual({
            lo: (amount?.ms.value ?? NaN) * fastest,
            hi: (amount?.ms.value ?? NaN) * slowest,
            how: "90 % band",
          });
          expect(amount?.share.interval.lo).toBeLessThan(amount?.share.value ?? NaN);
          expect(amount?.share.interval.hi).toBeGreaterThan(amount?.share.value ?? NaN);
        },
      ),
    );
  });

  test("is all of the time, in groups as in stages, and of one kind", () => {
    for (const detail of ["groups", "stages"] as const) {
      const curve = curveOf(machine, decode, [64, 4096], detail);
      expect(curve.kind).toBe("calibrated");
      for (const { amounts } of curve.columns) {
        const shares = [...amounts.values()].map(({ share }) => share.value);
        expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
        for (const { ms, share } of amounts.values())
          expect([ms.kind, share.kind]).toEqual(["calibrated", "calibrated"]);
      }
    }
    expect(
      curveOf(machine, decode, [64], "stages")
        .parts.map(({ key }) => key)
        .sort(),
    ).toEqual([...MODELLED].sort());
  });

  test("of a request is its prompt and its steps, one by one", () => {
    const request: Question = { phase: "request", batch: 1, numOutputs: 40 };
    const [column] = curveOf(machine, request, [700], "groups").columns;
    const steps = Array.from({ length: 39 }, (_, index) => msOf("decode", 701 + index));
    const total = steps.reduce((sum, ms) => sum + ms, msOf("prefill", 700));
    expect((column?.wall.value ?? NaN) / total).toBeCloseTo(1, 3); // steps are interpolated
    expect(
      curveOf(machine, { ...request, numOutputs: 1 }, [700], "groups").columns[0]?.wall.value,
    ).toBeCloseTo(msOf("prefill", 700), 9);
  });
});

describe("lengths", () => {
  test("go from the first measured one to the end of the context, with all measured ones", () => {
    const lengths = lengthsFor([64, 100, 4096], machine, decode);
    expect([lengths[0], lengths.at(-1)]).toEqual([64, 8192]);
    expect(lengths).toEqual([...lengths].sort((a, b) => a - b));
    for (const length of [64, 100, 1024, 4096]) expect(lengths).toContain(length);
  });

  test("leave a request room for its output", () => {
    const most = lengthsFor([64], machine, { phase: "request", batch: 1, numOutputs: 128 }).at(-1);
    expect(most).toBe(8192 - 127);
    expect(lengthsFor([64], machine, { phase: "request", batch: 1, numOutputs: 9000 })).toEqual([64]);
  });

  test("where the cursor rests are the measured ones and round ones behind them", () => {
    const measured = budgetOf({ run: MODELLED_RUN, kind: "measured", answers: [] }, "decode", 1, "groups");
    if (!measured) throw new Error("the sample has no decode cells");
    const lengths = lengthsFor(
      measured.columns.map(({ length }) => length),
      machine,
      decode,
    );
    const stops = stopsOf(measured, curveOf({ ...machine, limit: 8192 }, decode, lengths, "groups"));
    expect(stops.map(({ length }) => length)).toEqual([64, 128, 256, 512, 1024, 2048, 4096, 8192]);
    expect(stops.map((stop) => [stop.measured !== null, stop.modelled !== null]).at(-1)).toEqual([
      false,
      true,
    ]);
    expect(stops.slice(0, -1).every((stop) => stop.measured && stop.modelled?.length === stop.length)).toBe(
      true,
    );
    expect(stopsOf(measured, null)).toHaveLength(7);
  });
});
