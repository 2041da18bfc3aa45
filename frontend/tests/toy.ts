// A cost model for tests: a few straight lines, no claim about any machine. It answers as the server
// does, and every number in an answer follows from `toySeconds`, so that a test can work it out too.

import type { Answer, Crossing } from "../src/data/answers";
import type { Scope } from "../src/data/budget";
import type { Switches } from "../src/data/curves";
import type { Curve, Curves, CurvesBody, Known } from "../src/api/types";

export const TOY_STAGES = [
  ...["host_gap", "embed", "norm", "qkv", "kv_write"],
  ...["attention", "o_proj", "mlp", "lm_head", "sample"],
] as const;
type Stage = (typeof TOY_STAGES)[number];
type Device = "cuda" | "cpu";

/** What the toy knows of a machine: a GPU is so many times as fast. */
const SPEED: Record<Device, number> = { cpu: 1, cuda: 20 };
const CONTEXT = 8192;

/** The values that a switch has in the toy, and those that only a GPU has. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  kv_cache: ["on", "off"],
  attention: ["flash", "sdpa", "naive"],
  chunked_prefill: ["8192", "512", "64"],
  fused_kernels: ["on", "off"],
  gemv: ["on", "off"],
  graphs: ["on", "off"],
  overlap: ["on", "off"],
  weights: ["packed", "dense"],
};
const GPU_ONLY = ["gemv", "graphs", "overlap"];

const ATTENTION: Readonly<Record<string, number>> = { flash: 1, sdpa: 1.5, naive: 3 };

/** Seconds of one row, on a CPU. */
const ROW: Record<Exclude<Stage, "attention" | "host_gap">, number> = {
  embed: 1e-5,
  norm: 3e-4,
  qkv: 1.1e-3,
  kv_write: 6e-5,
  o_proj: 6e-4,
  mlp: 3.9e-3,
  lm_head: 2.3e-3,
  sample: 1e-4,
};

export interface Work {
  readonly scope: Scope;
  readonly length: number;
  readonly batch: number;
  readonly numOutputs: number;
}

/** Seconds of each stage. */
export function toySeconds(work: Work, switches: Switches, device: Device): Record<Stage, number> {
  const { scope, length, batch, numOutputs } = work;
  if (scope !== "request") return ofPhase(scope, length, batch, switches, device);
  const prompt = ofPhase("prefill", length, batch, switches, device);
  const step = ofPhase("decode", length, batch, switches, device);
  return each((stage) => prompt[stage] + (numOutputs - 1) * step[stage]);
}

function ofPhase(
  phase: "decode" | "prefill",
  length: number,
  batch: number,
  switches: Switches,
  device: Device,
): Record<Stage, number> {
  // Without stored keys and values every step computes the whole prefix again.
  const whole = phase === "prefill" || switches.kv_cache === "off";
  const rows = whole ? 1 + (length * batch) / 9 : 1 + (batch - 1) / 9;
  const pairs = whole ? (length * length) / 80 : length;
  const times: Partial<Record<Stage, number>> = {
    norm: switches.fused_kernels === "off" ? 2 : 1,
    qkv: switches.gemv === "off" ? 1.2 : 1,
    mlp: switches.weights === "dense" ? 1.6 : 1,
  };
  const host =
    2e-4 * (switches.graphs === "on" ? 0.5 : 1) * (switches.overlap === "on" ? 0.8 : 1) +
    (phase === "prefill" ? (5e-4 * length) / Number(switches.chunked_prefill || 512) : 0);
  return each((stage) => {
    if (stage === "host_gap") return host;
    const one = stage === "attention" ? 1.7e-6 * pairs * batch : ROW[stage] * rows * (times[stage] ?? 1);
    const slow = stage === "attention" ? (ATTENTION[switches.attention ?? "flash"] ?? 1) : 1;
    return (one * slow) / SPEED[device];
  });
}

const each = (of: (stage: Stage) => number): Record<Stage, number> =>
  Object.fromEntries(TOY_STAGES.map((stage) => [stage, of(stage)])) as Record<Stage, number>;

/** Switches as they stand together: what does not work with another value goes off. */
export function settled(switches: Switches, device: Device): Switches {
  const off = (key: string): Switches => (key in switches ? { [key]: "off" } : {});
  return {
    ...switches,
    ...(switches.kv_cache === "off" ? off("overlap") : {}),
    ...(switches.attention !== "flash" && device === "cuda" ? off("graphs") : {}),
  };
}

/** What is asked for, over what the choices say; and every other value of every switch. */
export function toyCurves(body: CurvesBody): Curves {
  const machine = TOY_KNOWN.machines.find(({ name }) => name === body.machine);
  const device = body.hardware?.device ?? (machine?.device === "cpu" ? "cpu" : "cuda");
  const packed = Object.keys(body.packed).length > 0;
  const given = Object.fromEntries(
    Object.keys(VALUES)
      .filter((key) => key !== "weights" || packed)
      .map((key) => [key, String(body.choices[key] ?? (key === "weights" ? "packed" : VALUES[key]?.[0]))]),
  );
  if (given.chunked_prefill === "-1") given.chunked_prefill = device === "cuda" ? "8192" : "512";
  const known = Object.fromEntries(Object.entries(body.switches).filter(([key]) => key in given));
  const asked = settled({ ...given, ...known }, device);
  const limit = Number(body.spec?.context_length) || CONTEXT;
  const last = body.scope === "request" ? limit - body.num_outputs + 1 : limit;
  const lengths = [...new Set([...grid(last), ...body.lengths.filter((length) => length <= last)])];
  lengths.sort((a, b) => a - b);
  const name = body.name || body.shape || "this model";
  const kind = body.hardware?.kind ?? "spec";
  const where = body.hardware?.name ?? machine?.title ?? "";
  const curve = (key: string, value: string): Curve => {
    const switches = key ? settled({ ...asked, [key]: value }, device) : asked;
    const { scope, batch, num_outputs: numOutputs } = body;
    const rows = lengths.map((length) => toySeconds({ scope, length, batch, numOutputs }, switches, device));
    const seconds = rows.map((row) => TOY_STAGES.map((stage) => row[stage]));
    return {
      switch: key,
      value,
      switches,
      seconds,
      answer: answerOf(lengths, seconds, body, kind, name, where),
    };
  };
  const others = Object.entries(asked).flatMap(([key, current]) =>
    GPU_ONLY.includes(key) && device === "cpu"
      ? []
      : (VALUES[key] ?? []).filter((value) => value !== current).map((value) => [key, value] as const),
  );
  return {
    model: name,
    machine: where,
    kind,
    band: [body.hardware?.fastest ?? 1, body.hardware?.slowest ?? 2],
    scope: body.scope,
    batch: body.batch,
    num_outputs: body.num_outputs,
    lengths,
    stages: TOY_STAGES,
    curves: [curve("", ""), ...others.map(([key, value]) => curve(key, value))],
    not_modelled: ["batching", "sampler"],
  };
}

/** From 1 to the end, four in an octave. */
function grid(last: number): number[] {
  const octaves = Array.from({ length: 18 }, (_, octave) => 2 ** octave);
  const steps = octaves.flatMap((octave) => [1, 1.25, 1.5, 1.75].map((part) => Math.round(octave * part)));
  return [...steps.filter((length) => length < last), last];
}

const PLACE = TOY_STAGES.indexOf("attention");
const WHOLE: Record<Scope, string> = {
  decode: "a decode step",
  prefill: "a prompt's time",
  request: "a whole request's time",
};

function answerOf(
  lengths: readonly number[],
  seconds: readonly (readonly number[])[],
  { scope, batch }: CurvesBody,
  kind: Crossing["kind"],
  model: string,
  machine: string,
): Answer {
  const shares = seconds.map((row) => (row[PLACE] ?? 0) / row.reduce((sum, s) => sum + s, 0));
  const crossing = (level: number): Crossing => {
    const below = shares.reduce((found, share, place) => (share < level ? place : found), -1);
    if (below < 0) return { value: 1, lo: null, hi: null, kind, status: "already at 1" };
    const value = lengths[below + 1];
    if (value === undefined)
      return { value: null, lo: null, hi: null, kind, status: `never up to ${lengths.at(-1)}` };
    return { value, lo: null, hi: null, kind, status: "found" };
  };
  const [s05, s10, s50] = [crossing(0.05), crossing(0.1), crossing(0.5)] as const;
  const ten = `10 % of ${WHOLE[scope]}`;
  const clause =
    s10.value === null
      ? `never reaches ${ten} ${s10.status.replace("never ", "")} tokens`
      : `reaches ${ten} at ${s10.value.toLocaleString("en")} tokens`;
  return { phase: scope, batch, s05, s10, s50, sentence: `On ${model} and ${machine}, attention ${clause}.` };
}

export const TOY_KNOWN: Known = {
  machines: [
    { name: "h100", title: "NVIDIA H100 SXM", device: "cuda" },
    { name: "rtx4090", title: "NVIDIA GeForce RTX 4090", device: "cuda" },
  ],
  shapes: ["SmolLM2-135M", "Llama-3.1-8B"],
};
