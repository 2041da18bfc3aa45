// @vitest-environment node

import { describe, expect, test } from "vitest";
import type { Loaded } from "../../src/data/budget";
import { offBy, scaled, threeDigits } from "../../src/data/rates";
import { beside, planeOf, powers } from "../../src/chart/plane";
import { reachedBy, ridgeOf, roofAt, sideOf } from "../../src/data/reached";
import { FAR, FAR_COUNTS, RECORDED, RECORDED_COUNTS } from "../recorded";

const loaded: Loaded = { run: RECORDED, kind: "recorded", answers: [] };
const reached = reachedBy(loaded, RECORDED_COUNTS, "decode", 1);
const at = (stage: string, length: number): (typeof reached)[number] => {
  const found = reached.find((point) => point.stage === stage && point.length === length);
  if (!found) throw new Error(`no ${stage} at ${length}`);
  return found;
};

describe("a point of the roofline", () => {
  test("has the FLOPs and bytes that one counts by hand", () => {
    const head = at("lm_head", 1024);
    expect(head.flops).toBe(2 * 576 * 49152);
    expect(head.bytes).toBeCloseTo(RECORDED.head_bytes! + 576 * 2 + 49152 * 4, 3);
    const attention = at("attention", 1024);
    expect(attention.flops).toBe(30 * 4 * 9 * 64 * 1024);
    expect(attention.bytes).toBe(30 * (2 * 3 * 64 * 2 * 1024 + 2 * 9 * 64 * 2));
  });

  test("is its work by its time", () => {
    for (const { flops, bytes, time, rate, traffic, intensity } of reached) {
      const seconds = time.value / 1e3;
      // Between two samples in the middle, a median of rates is not that of times.
      expect(Math.abs(rate.value * seconds - flops)).toBeLessThanOrEqual(0.02 * flops);
      expect(Math.abs(traffic.value * seconds - bytes)).toBeLessThanOrEqual(0.02 * bytes);
      expect(intensity).toBe(flops / bytes);
      expect(rate.kind).toBe("recorded");
    }
  });

  test("has the parts that its kernels add up to", () => {
    for (const { flops, bytes, kernels } of [
      ...reached,
      ...reachedBy(loaded, RECORDED_COUNTS, "prefill", 1),
    ]) {
      const sum = (of: (kernels: { flops: number; bytes: number }) => number): number =>
        kernels.reduce((total, group) => total + of(group), 0);
      expect(sum((group) => group.flops)).toBeCloseTo(flops, 0);
      expect(sum((group) => group.bytes)).toBeCloseTo(bytes, 0);
    }
  });

  test("is held against memory alone where no arithmetic is counted", () => {
    const norm = at("norm", 1024);
    expect(norm.flops).toBe(0);
    expect(norm.share.value).toBeCloseTo(norm.traffic.value / RECORDED_COUNTS.limits.bytes_s, 3);
  });
});

test("the roof is the lesser of both", () => {
  const limits = { flop_s: 400, bytes_s: 10 };
  expect(ridgeOf(limits)).toBe(40);
  expect([1, 40, 100].map((intensity) => roofAt(intensity, limits))).toEqual([10, 400, 400]);
  expect([1, 100].map((intensity) => sideOf(intensity, limits))).toEqual(["bandwidth", "compute"]);
});

test("of each cell all stages that were measured and counted have a point, the shortest first", () => {
  const far: Loaded = { run: FAR, kind: "recorded", answers: [] };
  for (const phase of ["decode", "prefill"] as const) {
    const found = reachedBy(far, FAR_COUNTS, phase, 1);
    const cells = FAR.cells.filter((cell) => cell.phase === phase);
    expect([...new Set(found.map(({ length }) => length))]).toEqual(
      cells.map(({ length }) => length).sort((a, b) => a - b),
    );
    for (const { length, stages_ns } of cells) {
      const stages = found.filter((point) => point.length === length).map(({ stage }) => stage);
      for (const stage of ["attention", "mlp", "lm_head"]) expect(stages).toContain(stage);
      for (const stage of stages) expect(stages_ns).toHaveProperty(stage);
    }
  }
  expect(reachedBy(far, FAR_COUNTS, "decode", 7)).toEqual([]);
  expect(reachedBy(far, { ...FAR_COUNTS, cells: [] }, "decode", 1)).toEqual([]);
});

test("counts belong to their run, with the limits that it measured", () => {
  for (const [run, counts] of [
    [RECORDED, RECORDED_COUNTS],
    [FAR, FAR_COUNTS],
  ] as const) {
    expect(counts.run).toBe(run.id);
    const { flop_s, bytes_s } = counts.limits;
    expect(run.limits).toMatchObject({ matmul_flop_s: flop_s, read_bytes_s: bytes_s });
  }
  expect([RECORDED_COUNTS.sheet, FAR_COUNTS.sheet?.name]).toEqual([null, "NVIDIA H100 SXM"]);
});

test("large numbers have three digits and a prefix", () => {
  expect(scaled(394513981453, "FLOP/s")).toBe("395 GFLOP/s");
  expect(scaled(31822798404, "B/s")).toBe("31.8 GB/s");
  expect(scaled(999_600, "B")).toBe("1.00 MB");
  expect(scaled(0, "B")).toBe("0 B");
  expect(scaled(512, "B")).toBe("512 B");
  expect([0.0625, 1.0625, 12.34, 1234].map(threeDigits)).toEqual(["0.0625", "1.06", "12.3", "1,230"]);
  expect([1.1218, 0.95, 1].map(offBy)).toEqual(["+12.2 %", "−5.0 %", "0.0 %"]);
});

test("ticks of a logarithmic axis lie within it", () => {
  const frame = { width: 500, height: 400, left: 50, right: 490, top: 20, bottom: 350 };
  const { x, y } = planeOf([0.3, 40], [7, 60_000], frame);
  expect(powers(x)).toEqual([1, 10]);
  expect(powers(y)).toEqual([10, 100, 1000, 10_000]);
  expect(powers(planeOf([0.3, 3], [1, 2], frame).x)).toEqual([0.5, 1, 2]);
});

test("labels beside points that are close keep apart, others stay", () => {
  const points = [
    { x: 100, y: 50 },
    { x: 110, y: 52 },
    { x: 105, y: 55 },
    { x: 400, y: 51 },
  ];
  const placed = beside(points, 90, 15, 10, 300);
  expect(placed[3]).toBe(51);
  const close = placed.slice(0, 3).sort((a, b) => a - b);
  expect((close[1] ?? 0) - (close[0] ?? 0)).toBeGreaterThanOrEqual(15);
  expect((close[2] ?? 0) - (close[1] ?? 0)).toBeGreaterThanOrEqual(15);
});
