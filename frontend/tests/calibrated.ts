// A made-up run that the model can be asked about, and a made-up machine fitted to it.

import type { Calibration } from "../src/data/calibration";
import type { RunFile } from "../src/data/runfile";
import type { Counts, CurvesBody } from "../src/api/types";
import { HERE } from "./sample";

export const SHAPE = {
  vocab_size: 49152,
  hidden_size: 576,
  intermediate_size: 1536,
  num_layers: 30,
  num_heads: 9,
  num_kv_heads: 3,
  head_dim: 64,
  context_length: 8192,
  qk_norm: false,
  sandwich_norms: false,
  sliding_window: 0,
  local_layers: [],
};

export const MODELLED_RUN: RunFile = {
  ...HERE,
  id: "e7".repeat(32),
  model: { name: "smollm2", spec: SHAPE },
  engine: {
    ...HERE.engine,
    switches: {
      attention: "flash",
      kv_cache: "on",
      chunked_prefill: "-1",
      fused_kernels: "on",
      gemv: "off",
      graphs: "off",
      overlap: "off",
      weights: "packed",
    },
  },
  limits: { matmul_flop_s: 390e9, read_bytes_s: 31e9 },
  weight_bytes: 96436224,
  head_bytes: 30081024,
  kv_bytes_per_token: 46080,
};

const CHOICES = {
  kv_cache: "on",
  attention: "flash",
  chunked_prefill: 512,
  fused_kernels: "on",
  gemv: "off",
  graphs: "off",
  overlap: "off",
  weight_bytes: 0.6,
  head_bytes: 1.06,
  kv_bytes: 4,
  activation_bytes: 4,
};

/** Counted by nobody: what tests need to ask for curves. */
export const COUNTS: Counts = {
  run: MODELLED_RUN.id,
  spec: SHAPE,
  choices: CHOICES,
  device: "cpu",
  limits: { flop_s: 390e9, bytes_s: 31e9 },
  sheet: null,
  cells: [],
};

export const CALIBRATION: Calibration = {
  schema: 4,
  run: MODELLED_RUN.id,
  model: "smollm2",
  hardware: {
    name: "AMD EPYC",
    kind: "calibrated",
    device: "cpu",
    flop_s: 390e9,
    bytes_s: 31e9,
    launch_s: 4e-6,
    library_s: 4e-6,
    node_s: 4e-6,
    library_node_s: 4e-6,
    attention_launches: 1,
    host_s: 1.4e-4,
    host_row_s: 1e-5,
    host_token_s: 0,
    eta_gemm: 0.45,
    gemm_rows: 4,
    eta_gemv: 0.45,
    eta_attention_flops: 0.12,
    attention_positions: 32,
    eta_attention_bytes: 0.85,
    eta_reduction: 0.1,
    eta_elementwise: 0.5,
    fastest: 0.85,
    slowest: 1.2,
  },
  choices: CHOICES,
  report: {
    num_fitted: 9,
    num_held_out: 5,
    seed: 0,
    held_out: [],
    stage_error: { median: 0.06, p90: 0.2 },
    step_error: { median: 0.03, max: 0.1 },
    share_error_points: { median: 1, max: 3 },
    by_stage: {},
    crossover: [],
  },
  cells: [],
};

/** What the page asks of this run with this fit; a test changes what it is about. */
export const body = (changes: Partial<CurvesBody> = {}): CurvesBody => ({
  name: MODELLED_RUN.model.name,
  spec: SHAPE,
  hardware: CALIBRATION.hardware,
  choices: CHOICES,
  packed: { weight_bytes: CHOICES.weight_bytes, head_bytes: CHOICES.head_bytes },
  switches: {},
  scope: "decode",
  batch: 1,
  num_outputs: 128,
  lengths: [],
  ...changes,
});
