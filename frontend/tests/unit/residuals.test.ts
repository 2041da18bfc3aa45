// @vitest-environment node
//
// What the page says of a calibration is what Python said of it, put together anew from its cells.

import { describe, expect, test } from "vitest";
import type { Loaded } from "../../src/data/budget";
import { bandOf, coverageOf, coverageOfOthers, quantile, residualsOf } from "../../src/data/residuals";
import { PAIRS } from "../recorded";

const median = (values: readonly number[]): number => {
  const ranked = [...values].sort((a, b) => a - b);
  const half = (ranked.length - 1) / 2;
  return ((ranked[Math.floor(half)] ?? NaN) + (ranked[Math.ceil(half)] ?? NaN)) / 2;
};

describe.each(PAIRS)("$name", ({ run, fit }) => {
  const loaded: Loaded = { run, kind: "recorded", answers: [] };
  const residuals = residualsOf(loaded, fit);
  const held = residuals.filter(({ heldOut }) => heldOut);
  const { report, hardware } = fit;

  test("the calibration belongs to the run", () => {
    expect(fit.run).toBe(run.id);
    expect(run.limits).toMatchObject({
      matmul_flop_s: hardware.flop_s,
      read_bytes_s: hardware.bytes_s,
    });
    const places = (cells: readonly { phase: string; length: number; batch: number }[]): string[] =>
      cells.map(({ phase, length, batch }) => `${phase} ${length} ${batch}`).sort();
    expect(places(fit.cells)).toEqual(places(run.cells));
  });

  describe("what Python reports", () => {
    test("of the stages", () => {
      const errors = held.map(({ ratio }) => Math.abs(ratio - 1));
      expect(median(errors)).toBeCloseTo(report.stage_error.median, 9);
      expect(quantile(errors, 0.9)).toBeCloseTo(report.stage_error.p90, 9);
    });

    test("of each stage's bias", () => {
      for (const [phase, stages] of Object.entries(report.by_stage)) {
        for (const [stage, ratio] of Object.entries(stages)) {
          const own = held.filter((residual) => residual.phase === phase && residual.stage === stage);
          expect(median(own.map((residual) => residual.ratio)), `${phase} ${stage}`).toBeCloseTo(ratio, 9);
        }
      }
    });

    test("of the band", () => {
      const [fastest, slowest] = bandOf(held.map(({ ratio }) => 1 / ratio));
      expect(fastest).toBeCloseTo(hardware.fastest, 9);
      expect(slowest).toBeCloseTo(hardware.slowest, 9);
    });
  });

  test("cells are those set aside or those of the fit", () => {
    const cells = new Set(held.map(({ phase, length, batch }) => `${phase} ${length} ${batch}`));
    expect(cells.size).toBe(report.num_held_out);
    expect(residuals.length).toBeGreaterThan(held.length);
  });

  test("a figure keeps where it comes from", () => {
    for (const { measured, modelled } of residuals) {
      expect(measured.kind).toBe("recorded");
      expect(measured.n).toBeGreaterThan(1);
      expect(modelled.kind).toBe("calibrated");
      expect(modelled.n).toBe(0);
      expect(modelled.interval.lo).toBeLessThanOrEqual(modelled.value);
      expect(modelled.interval.hi).toBeGreaterThanOrEqual(modelled.value);
    }
  });

  test("nine in ten lie within the band that they made, fewer within that of the others", () => {
    const [own, others] = [coverageOf(held), coverageOfOthers(held)];
    expect(own.within / own.of).toBeGreaterThanOrEqual(0.88);
    expect(others.of).toBe(own.of);
    expect(others.within).toBeLessThanOrEqual(own.within);
  });
});
