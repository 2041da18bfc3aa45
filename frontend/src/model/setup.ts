// What was measured, as the model takes it: the shape, the switches and sizes, the device and the
// rates it reached. The twin of `choices_of` in src/pellucid/explore/calibrate.py.
//
// A run file can be shown without these; so they are looked at here, and a run that lacks them is
// shown without a model.

import { SWITCHES } from "../data/calibration";
import { list, number, oneOf, positive, record, type Fields } from "../data/fields";
import type { RunFile } from "../data/runfile";
import { DEFAULT_CHOICES, type Choices, type Device, type ModelSpec } from "./work";

export interface Setup {
  readonly spec: ModelSpec;
  readonly choices: Choices;
  readonly device: Device;
  readonly limits: Limits;
}

/** Rates per second. */
export interface Limits {
  readonly flop_s: number;
  readonly bytes_s: number;
}

const ELEMENT_SIZE: ReadonlyMap<unknown, number> = new Map([
  ["float32", 4],
  ["bfloat16", 2],
  ["float16", 2],
]);
const COUNTS = [
  ...["vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads"],
  "head_dim",
];

/** Throws `BadFile` with the name of what is missing. */
export function setupOf(run: RunFile): Setup {
  const spec = specOf(run.model.spec);
  const limits = record(run.limits, "limits");
  for (const key of ["matmul_flop_s", "read_bytes_s"]) positive(limits[key], `limits.${key}`);
  return {
    spec,
    choices: choicesOf(run, spec),
    device: run.engine.device.startsWith("cuda") ? "cuda" : "cpu",
    limits: { flop_s: Number(limits.matmul_flop_s), bytes_s: Number(limits.read_bytes_s) },
  };
}

function specOf(value: unknown): ModelSpec {
  const spec = record(value, "model.spec");
  for (const key of COUNTS) positive(spec[key], `model.spec.${key}`);
  const window = spec.sliding_window ?? 0;
  number(window, "model.spec.sliding_window");
  const local = list(spec.local_layers ?? [], "model.spec.local_layers");
  return {
    ...(value as ModelSpec), // its counts have been looked at
    qk_norm: spec.qk_norm === true,
    sandwich_norms: spec.sandwich_norms === true,
    sliding_window: Number(window),
    local_layers: local.map(Boolean),
  };
}

function choicesOf(run: RunFile, spec: ModelSpec): Choices {
  const { engine, head_bytes: headBytes = 0 } = run;
  for (const key of ["weight_bytes", "kv_bytes_per_token"] as const) positive(run[key], key);
  oneOf(engine.dtype, [...ELEMENT_SIZE.keys()], "engine.dtype");
  const q = spec.num_heads * spec.head_dim;
  const kv = spec.num_kv_heads * spec.head_dim;
  const layers = spec.num_layers * spec.hidden_size * (2 * q + 2 * kv + 3 * spec.intermediate_size);
  const head = spec.vocab_size * spec.hidden_size;
  return {
    ...DEFAULT_CHOICES,
    ...switchesOf(engine.switches),
    weight_bytes: (Number(run.weight_bytes) - headBytes) / (layers + (headBytes ? 0 : head)),
    head_bytes: headBytes / head,
    kv_bytes: Number(run.kv_bytes_per_token) / (2 * spec.num_layers * kv),
    activation_bytes: ELEMENT_SIZE.get(engine.dtype) ?? 0,
  };
}

/** Those that bear on cost; a run file holds numbers among them as text. */
function switchesOf(switches: Fields): Partial<Choices> {
  const known = Object.entries(SWITCHES).filter(([key]) => key in switches);
  for (const [key, words] of known) oneOf(switches[key], words, `engine.switches.${key}`);
  const chunk = Number(switches.chunked_prefill ?? -1);
  number(chunk, "engine.switches.chunked_prefill");
  return { ...Object.fromEntries(known.map(([key]) => [key, switches[key]])), chunked_prefill: chunk };
}
