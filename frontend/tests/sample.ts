// Run files made up for tests: plausible shapes, reproducible noise, no claim about any machine.

import type { Answer, Crossing } from "../src/data/answers";
import type { Kind } from "../src/data/provenance";
import type { Cell, Phase, RunFile } from "../src/data/runfile";

const LENGTHS = [64, 128, 256, 512, 1024, 2048, 4096];
const BLOCKS = 10;

/** Nanoseconds of each stage but attention, at length 64, and how they grow. */
const DECODE: Record<string, number> = {
  schedule: 32e3,
  prepare: 90e3,
  host_gap: 0,
  detokenize: 25e3,
  embed: 12e3,
  norm: 310e3,
  qkv: 1150e3,
  kv_write: 60e3,
  o_proj: 620e3,
  mlp: 3900e3,
  lm_head: 2300e3,
  sample: 95e3,
};

/** A generator of numbers in [0, 1) that gives the same ones each time. */
export function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export interface Recipe {
  readonly id: string;
  readonly seed: number;
  /** Factor on attention's time: what a switch might change. */
  readonly attention?: number;
  readonly gpu?: string;
  readonly date?: string;
  readonly blocks?: number;
  readonly lengths?: readonly number[];
}

export function sampleRun(recipe: Recipe): RunFile {
  const random = noise(recipe.seed);
  const lengths = recipe.lengths ?? LENGTHS;
  const cells = (["decode", "prefill"] as const).flatMap((phase) =>
    lengths.map((length) => cellOf(phase, length, recipe, random)),
  );
  return {
    schema: 1,
    id: recipe.id,
    environment: {
      date: recipe.date ?? "2026-11-24T19:30:00+00:00",
      commit: "62d2d4d",
      cpu: "AMD EPYC",
      ...(recipe.gpu ? { gpu: recipe.gpu } : {}),
    },
    model: { name: "smollm2" },
    engine: {
      device: recipe.gpu ? "cuda:0" : "cpu",
      dtype: "float32",
      switches: { attention: "flash", kv_cache: "on" },
    },
    cells,
    closure: 0.021,
    instrument_ratio: 1.012,
    interrupted: false,
  };
}

function cellOf(phase: Phase, length: number, recipe: Recipe, random: () => number): Cell {
  const blocks = Array.from({ length: recipe.blocks ?? BLOCKS }, () =>
    blockOf(phase, length, recipe, random),
  );
  const stages = Object.keys(blocks[0] ?? {});
  const stages_ns = Object.fromEntries(
    stages.map((stage) => [stage, blocks.map((block) => block[stage] ?? 0)]),
  );
  const wall_ns = blocks.map((block) => Object.values(block).reduce((sum, ns) => sum + ns, 0));
  const timed_wall_ns = wall_ns.map((ns) => Math.round(ns * 1.012));
  return {
    phase,
    length,
    batch: 1,
    num_steps: phase === "decode" ? 16 : Math.ceil(length / 512),
    wall_ns,
    timed_wall_ns,
    stages_ns,
  };
}

function blockOf(
  phase: Phase,
  length: number,
  { attention = 1, gpu }: Recipe,
  random: () => number,
): Record<string, number> {
  const speed = (gpu ? 0.08 : 1) * (0.94 + 0.12 * random());
  const work = phase === "decode" ? 1 : length / 9;
  const quadratic = phase === "decode" ? 1.7 * length * 1e3 : 0.021 * length * length * 1e3;
  const rest = Object.entries(DECODE).map(
    ([stage, ns]) => [stage, ns * (stage === "lm_head" || stage === "sample" ? 1 : work)] as const,
  );
  const block: Record<string, number> = { attention: quadratic * attention + 120e3 * Math.sqrt(work) };
  for (const [stage, ns] of rest) block[stage] = ns;
  for (const stage of Object.keys(block))
    block[stage] = Math.round((block[stage] ?? 0) * speed * (0.97 + 0.06 * random()));
  const sum = Object.values(block).reduce((total, ns) => total + ns, 0);
  block.other = Math.round(sum * (random() * 0.03 - 0.008));
  return block;
}

/** Where a straight line through the medians' logarithms crosses; good enough to look right. */
function crossing(run: RunFile, phase: Phase, level: number, kind: Kind): Crossing {
  const points = run.cells
    .filter((cell) => cell.phase === phase)
    .map((cell) => ({ length: cell.length, share: median(shares(cell)) }));
  const at = points.findIndex(({ share }) => share >= level);
  if (at === 0) return { value: 1, lo: 1, hi: 1, kind, status: "already at 1" };
  const [a, b] = [points[at - 1], points[at]];
  if (at < 0 || !a || !b) return { value: null, lo: null, hi: null, kind, status: "never up to 8192" };
  const part = Math.log(level / a.share) / Math.log(b.share / a.share);
  const value = Math.round(a.length * (b.length / a.length) ** part);
  return { value, lo: Math.round(value * 0.95), hi: Math.round(value * 1.06), kind, status: "found" };
}

const shares = (cell: Cell): number[] =>
  cell.wall_ns.map((ns, block) => (cell.stages_ns.attention?.[block] ?? 0) / ns);
const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? 0;

export function sampleAnswers(run: RunFile, kind: Kind = "measured"): Answer[] {
  return (["decode", "prefill"] as const).map((phase) => {
    const [s05, s10, s50] = [0.05, 0.1, 0.5].map((level) => crossing(run, phase, level, kind)) as [
      Crossing,
      Crossing,
      Crossing,
    ];
    const where = `On ${run.model.name} and ${run.environment.gpu ?? run.environment.cpu}`;
    const what = phase === "decode" ? "a decode step" : "a prefill";
    const ten =
      s10.value === null
        ? "never up to 8,192 tokens"
        : `at ${s10.value} tokens (95 % interval ${s10.lo} to ${s10.hi})`;
    return {
      phase,
      batch: 1,
      s05,
      s10,
      s50,
      sentence: `${where}, attention reaches 10 % of ${what} ${ten}.`,
    };
  });
}

export const HERE = sampleRun({ id: "a1".repeat(32), seed: 7 });
export const THERE = sampleRun({
  id: "b2".repeat(32),
  seed: 11,
  gpu: "NVIDIA H100 80GB",
  attention: 3,
  date: "2026-11-02T08:00:00+00:00",
});
export const ELSEWHERE = sampleRun({
  id: "c3".repeat(32),
  seed: 13,
  attention: 2.4,
  date: "2026-10-01T08:00:00+00:00",
});
