// What a step makes any machine do: flops, bytes and launches, counted from shapes alone.
//
// The twin of src/pellucid/explore/work.py, which says why each formula is as it is; this one makes
// a slider answer at once. Python is right where the two differ, and tests/unit/model.test.ts finds
// out whether they do. What comes from outside (spec, workload, choices) keeps the names that it has
// in JSON; values are taken to be in range, as the page's controls and the server see to.
//
// Counts go far beyond 2^31: no bit operation may touch them.

import type { Phase } from "../data/runfile";

export type Device = "cuda" | "cpu";

/** Of a model's shape, what bears on cost. */
export interface ModelSpec {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_layers: number;
  readonly num_heads: number;
  readonly num_kv_heads: number;
  readonly head_dim: number;
  readonly qk_norm: boolean;
  readonly sandwich_norms: boolean;
  /** Tokens a local layer sees, itself included; 0: no layer is local. */
  readonly sliding_window: number;
  /** Per layer, whether it has the window; empty: all have it if there is one. */
  readonly local_layers: readonly boolean[];
}

/** What is computed; lengths in tokens. */
export interface Workload {
  readonly phase: Phase;
  /** decode: stored tokens that the new one sees, itself included. prefill: new tokens. */
  readonly length: number;
  /** Sequences side by side, all alike. */
  readonly batch: number;
  /** prefill: tokens stored before. */
  readonly prefix: number;
}

export type Switch = "on" | "off";
export type AutoSwitch = Switch | "auto";

/** The switches as they bear on cost. `auto` is what the engine does on that kind of device. */
export interface Choices {
  readonly kv_cache: Switch;
  readonly attention: "flash" | "sdpa" | "naive";
  /** Prompt tokens in one step at most; 0 all, -1: 512 on a CPU, 8192 on a GPU. */
  readonly chunked_prefill: number;
  readonly fused_kernels: Switch;
  readonly gemv: AutoSwitch;
  readonly graphs: AutoSwitch;
  readonly overlap: AutoSwitch;
  /** Bytes per element of the layers' matrices. */
  readonly weight_bytes: number;
  /** The same of the LM head; 0: as the layers'. */
  readonly head_bytes: number;
  readonly kv_bytes: number;
  readonly activation_bytes: number;
  /** Tokens drafted for each step, all of them verified. */
  readonly drafts: number;
  /** Probability that a draft is accepted. */
  readonly acceptance: number;
}

export const DEFAULT_CHOICES: Choices = {
  kv_cache: "on",
  attention: "flash",
  chunked_prefill: -1,
  fused_kernels: "on",
  gemv: "auto",
  graphs: "auto",
  overlap: "auto",
  weight_bytes: 2,
  head_bytes: 0,
  kv_bytes: 2,
  activation_bytes: 2,
  drafts: 0,
  acceptance: 0,
};

/** Bytes of an element of the residual stream and of the logits: float32. */
const RESIDUAL = 4;
/** Up to so many tokens `gemv` makes the product with a matrix … */
const FEW_TOKENS = 8;
/** … of no more elements than these, … */
const FEW_WEIGHTS = 2 ** 24;
/** … and up to so many with any. */
const TOKENS_OF_ANY = 2;
/** Up to so many tokens packed weights are expanded in registers, on a CPU. */
const FEW_PACKED = 16;
/** Up to so many tokens a step is replayed as a graph, with `graphs` on. */
const GRAPHED_TOKENS = 4096;
/** From so many stored positions on, several programs of a GPU share a decoding row … */
const SHARED_POSITIONS = 256;
/** … if no more than so many key heads of rows keep it busy. */
const UNSHARED_HEADS = 128;
/** Chains of reads with which attention of a prompt begins on a GPU. */
const PROMPT_CHAINS = 3;

/** Rows of one step that are alike. */
export interface Rows {
  readonly num: number;
  /** Tokens computed in each. */
  readonly numNew: number;
  /** Tokens stored before them. */
  readonly prefix: number;
  /** Of the new ones, the last so many are sampled from. */
  readonly numSampled: number;
}

export type Stage =
  | "embed"
  | "norm"
  | "qkv"
  | "kv_write"
  | "attention"
  | "o_proj"
  | "mlp"
  | "lm_head"
  | "sample";

/** What one kernel, or several alike in kind, does on no particular machine. */
export interface Work {
  readonly stage: Stage;
  readonly kind: "matrix" | "attention" | "reduction" | "elementwise";
  readonly flops: number;
  readonly bytes: number;
  /** Of kernels of ours. */
  readonly launches: number;
  /** Of a library's kernels. */
  readonly calls: number;
  /** Elements of the matrix, 0 if there is none. */
  readonly weights: number;
  /** Flops that a matrix would take for one row more, attention for one position more a token. */
  readonly padFlops: number;
  /** Chains of reads that wait for each other in each launch of attention. */
  readonly chains: number;
}

/**
 * Kernels stand ready (a graph, a decode step of a CPU), are started when the one before has ended
 * (CPU), or are queued ahead of the device, which waits only where the host is the slower one (GPU).
 */
export type Launching = "ready" | "at once" | "behind";

/** Kernels that run one behind the other, and how often that comes: layers are mostly alike. */
export interface Group {
  readonly count: number;
  readonly works: readonly Work[];
  /** As all of their step. */
  readonly launching: Launching;
}

/** All that a workload makes a machine do. */
export interface Load {
  readonly groups: readonly Group[];
  /** Steps that the device waits for the host to plan, if the host is not hidden altogether. */
  readonly numPlans: number;
  /** Rows of all steps. */
  readonly numRows: number;
  /** New tokens of all steps. */
  readonly numTokens: number;
  /** Whether steps follow each other, and the host works while the device does. */
  readonly hidesHost: boolean;
  /** Tokens that each row gains: 1, or more with accepted drafts. */
  readonly tokensPerRow: number;
}

/** What `workload` comes to on such a device. */
export function loadOf(spec: ModelSpec, workload: Workload, asked: Choices, device: Device): Load {
  const choices = settled(asked, device);
  const steps = stepsOf(workload, choices);
  const decodes = workload.phase === "decode";
  const overlaps = choices.overlap === "on";
  return {
    groups: steps.flatMap((rows) => {
      const launching = launchingOf(numTokens(rows), choices, device, decodes);
      return stepWork(spec, rows, choices, device).map((group) => ({ ...group, launching }));
    }),
    numPlans: overlaps ? 1 : steps.length,
    numRows: sum(steps.map(numRows)),
    numTokens: sum(steps.map(numTokens)),
    hidesHost: overlaps && decodes,
    tokensPerRow: decodes ? expectedTokens(choices) : 1,
  };
}

/** How the kernels of a step of so many tokens get onto the device. choices: settled. */
function launchingOf(tokens: number, choices: Choices, device: Device, decodes: boolean): Launching {
  if (device === "cuda") return choices.graphs === "on" && tokens <= GRAPHED_TOKENS ? "ready" : "behind";
  return decodes && choices.kv_cache === "on" ? "ready" : "at once";
}

/** `choices` with `auto` decided as the engine decides it on such a device. */
export function settled(choices: Choices, device: Device): Choices {
  const gpu = device === "cuda";
  const chunk = gpu ? 8192 : 512;
  return {
    ...choices,
    gemv: decided(choices.gemv, gpu),
    graphs: decided(choices.graphs, gpu && choices.attention === "flash"),
    overlap: decided(choices.overlap, gpu && choices.kv_cache === "on"),
    chunked_prefill: choices.chunked_prefill < 0 ? chunk : choices.chunked_prefill,
    // Without stored keys there is nothing to verify drafts against.
    drafts: choices.kv_cache === "on" ? choices.drafts : 0,
  };
}

function decided(choice: AutoSwitch, possible: boolean): Switch {
  if (choice !== "auto") return choice;
  return possible ? "on" : "off";
}

/** Tokens a step yields on average: 1 + a + a² + … + a^k. */
export function expectedTokens(choices: Choices): number {
  return sum(range(0, choices.drafts + 1).map((i) => choices.acceptance ** i));
}

// Rows

/** The steps that the workload takes, each a list of its rows. */
export function stepsOf(workload: Workload, choices: Choices): Rows[][] {
  const { phase, length, batch } = workload;
  if (phase === "decode" && choices.kv_cache === "on") {
    const numNew = 1 + choices.drafts;
    return [[{ num: batch, numNew, prefix: length - 1, numSampled: numNew }]];
  }
  const everything = batch * length;
  const step = choices.chunked_prefill || everything;
  const starts = range(0, everything, step);
  return starts.map((start) => cut(start, Math.min(start + step, everything), workload));
}

/** Tokens begin .. end-1 of prompts that stand one behind the other. */
export function cut(begin: number, end: number, workload: Workload): Rows[] {
  const rows: Rows[] = [];
  for (let at = begin; at < end; ) {
    const first = at % workload.length;
    const stop = Math.min(workload.length, first + end - at);
    const isWhole = stop === workload.length;
    rows.push({ num: 1, numNew: stop - first, prefix: workload.prefix + first, numSampled: Number(isWhole) });
    at += stop - first;
  }
  return rows;
}

/** What the last layer computes of the rows: the tokens that are sampled from. */
function sampledPart(rows: readonly Rows[]): Rows[] {
  return rows
    .filter((r) => r.numSampled > 0)
    .map((r) => ({ ...r, numNew: r.numSampled, prefix: r.prefix + r.numNew - r.numSampled }));
}

export function numTokens(rows: readonly Rows[]): number {
  return sum(rows.map((r) => r.num * r.numNew));
}

function numRows(rows: readonly Rows[]): number {
  return sum(rows.map((r) => r.num));
}

/** Query-key pairs of new tokens behind `prefix`: the causal triangle on its rectangle. */
export function positionsSeen(numNew: number, prefix: number, window = 0): number {
  const pairs = numNew * prefix + (numNew * (numNew + 1)) / 2;
  if (window === 0) return pairs;
  const longest = prefix + numNew - window;
  const numCut = Math.min(numNew, Math.max(0, longest)); // tokens that see less than all before them
  return pairs - (numCut * longest - (numCut * (numCut - 1)) / 2);
}

/** Positions whose keys and values any of the tokens sees. */
export function positionsRead(numNew: number, prefix: number, window = 0): number {
  return window === 0 ? prefix + numNew : Math.min(prefix + numNew, window + numNew - 1);
}

// Work

/** The kernels of a step: of each kind of layer and of what is beside them, with its number. */
function stepWork(
  spec: ModelSpec,
  rows: readonly Rows[],
  choices: Choices,
  device: Device,
): Omit<Group, "launching">[] {
  const kept = sampledPart(rows);
  const last = spec.num_layers - 1;
  return [
    { count: 1, works: outerWork(spec, numTokens(rows), numTokens(kept), choices) },
    ...windowsOf(spec, last).map(([window, count]) => ({
      count,
      works: layerWork(spec, rows, rows, window, choices, device),
    })),
    { count: 1, works: layerWork(spec, rows, kept, windowOf(spec, last), choices, device) },
  ];
}

/** The windows of the first `end` layers, each with the number of layers that have it. */
function windowsOf(spec: ModelSpec, end: number): [window: number, count: number][] {
  const counts = new Map<number, number>();
  for (const layer of range(0, end)) {
    const window = windowOf(spec, layer);
    counts.set(window, (counts.get(window) ?? 0) + 1);
  }
  return [...counts];
}

/** Sliding window of `layer` in tokens, 0 if it sees everything. */
function windowOf(spec: ModelSpec, layer: number): number {
  return (spec.local_layers[layer] ?? true) ? spec.sliding_window : 0;
}

/** A matrix, and the stage of the product with it. */
interface Matrix {
  readonly stage: Stage;
  readonly numIn: number;
  readonly numOut: number;
  /** Elements. */
  readonly weights: number;
  /** Of one element … */
  readonly weightBytes: number;
  /** … and of one of what comes out. */
  readonly outBytes: number;
}

function matrix(stage: Stage, numIn: number, numOut: number, weightBytes: number, outBytes: number): Matrix {
  return { stage, numIn, numOut, weights: numIn * numOut, weightBytes, outBytes };
}

interface LayerMatrices {
  readonly qkv: Matrix;
  readonly o: Matrix;
  readonly gateUp: Matrix;
  readonly down: Matrix;
}

function layerMatrices(spec: ModelSpec, choices: Choices): LayerMatrices {
  const { hidden_size: hidden, intermediate_size: inner } = spec;
  const { weight_bytes: weight, activation_bytes: a } = choices;
  const { q, kv } = widths(spec);
  return {
    qkv: matrix("qkv", hidden, q + 2 * kv, weight, a),
    o: matrix("o_proj", q, hidden, weight, a),
    gateUp: matrix("mlp", hidden, 2 * inner, weight, a),
    down: matrix("mlp", inner, hidden, weight, a),
  };
}

/** What stands before and behind the layers. */
function outerWork(spec: ModelSpec, tokens: number, sampled: number, choices: Choices): Work[] {
  const { hidden_size: hidden, vocab_size: vocab } = spec;
  const stored = choices.head_bytes || choices.weight_bytes;
  const embed = moving("embed", "elementwise", tokens * hidden * (stored + RESIDUAL), 4);
  if (sampled === 0) return [embed];
  const head = matrix("lm_head", hidden, vocab, stored, RESIDUAL);
  const passes = choices.fused_kernels === "on" ? 1 : 2;
  return [
    embed,
    ...lastNorm(spec, sampled, head, choices),
    product(sampled, head, choices),
    moving("sample", "reduction", passes * sampled * vocab * RESIDUAL, 4),
  ];
}

/** One layer that makes keys and values of all rows and goes on with those kept. */
function layerWork(
  spec: ModelSpec,
  rows: readonly Rows[],
  kept: readonly Rows[],
  window: number,
  choices: Choices,
  device: Device,
): Work[] {
  const tokens = numTokens(rows);
  const goingOn = numTokens(kept);
  const { qkv, o, gateUp, down } = layerMatrices(spec, choices);
  const works = [
    ...normBetween(spec, tokens, down, qkv, choices),
    product(tokens, qkv, choices),
    rotationWork(spec, tokens, choices),
  ];
  if (kept.length === 0) return works;
  return [
    ...works,
    ...kept.map((r) => attentionWork(spec, r, window, choices, device)),
    product(goingOn, o, choices),
    ...postNorm(spec, goingOn, o, choices),
    ...normBetween(spec, goingOn, o, gateUp, choices),
    product(goingOn, gateUp, choices),
    ...gateWork(goingOn, gateUp, choices),
    product(goingOn, down, choices),
    ...postNorm(spec, goingOn, down, choices),
  ];
}

/** [tokens, numIn] times a matrix that is read once, whatever the number of tokens. */
function product(
  tokens: number,
  { stage, numIn, numOut, weights, weightBytes, outBytes }: Matrix,
  choices: Choices,
): Work {
  const isOurs = hasOwnKernel(tokens, weights, choices);
  return {
    stage,
    kind: "matrix",
    flops: 2 * tokens * weights,
    bytes: weights * weightBytes + tokens * (numIn * choices.activation_bytes + numOut * outBytes),
    launches: Number(isOurs),
    calls: Number(!isOurs),
    weights,
    padFlops: isOurs ? 0 : 2 * weights,
    chains: 1,
  };
}

/** Whether a kernel of ours, which wastes no row, makes the product. */
function hasOwnKernel(tokens: number, weights: number, choices: Choices): boolean {
  if (choices.gemv === "on") return pays(tokens, weights);
  return tokens <= FEW_PACKED && choices.weight_bytes < choices.activation_bytes;
}

/** Whether `gemv` is faster than a library, small steps included. */
function pays(tokens: number, weights: number): boolean {
  return tokens <= TOKENS_OF_ANY || (tokens <= FEW_TOKENS && weights <= FEW_WEIGHTS);
}

/** Whether `gemv` makes the product, and with it the small steps around. */
function isGemv(tokens: number, { weights }: Matrix, choices: Choices): boolean {
  return choices.gemv === "on" && pays(tokens, weights);
}

/** Work whose arithmetic is not worth counting. */
function moving(stage: Stage, kind: "reduction" | "elementwise", bytes: number, launches: number): Work {
  return { stage, kind, flops: 0, bytes, launches, calls: 0, weights: 0, padFlops: 0, chains: 1 };
}

/** The branch that `before` made is added to the residual; `after` reads the norm of that. */
function normBetween(
  spec: ModelSpec,
  tokens: number,
  before: Matrix,
  after: Matrix,
  choices: Choices,
): Work[] {
  if (addsInside(spec, tokens, before, choices)) return openNorm(spec, tokens, after, choices);
  return [normWork("norm", spec, tokens, choices, true)];
}

/** The same before the head, where few tokens' norm is open whatever is still to be added. */
function lastNorm(spec: ModelSpec, tokens: number, head: Matrix, choices: Choices): Work[] {
  if (choices.gemv !== "on" || tokens > FEW_TOKENS) return [normWork("norm", spec, tokens, choices, true)];
  const norm = openNorm(spec, tokens, head, choices);
  if (addsInside(spec, tokens, layerMatrices(spec, choices).down, choices)) return norm;
  const moved = tokens * spec.hidden_size * (3 * RESIDUAL + 2 * choices.activation_bytes);
  return [moving(head.stage, "elementwise", moved, 2), ...norm];
}

/** Whether the product adds to the residual: not if a norm stands behind it. */
function addsInside(spec: ModelSpec, tokens: number, by: Matrix, choices: Choices): boolean {
  return isGemv(tokens, by, choices) && !spec.sandwich_norms;
}

/** A norm that is left to the product with `after`: inside, or before it and in its stage. */
function openNorm(spec: ModelSpec, tokens: number, after: Matrix, choices: Choices): Work[] {
  return isGemv(tokens, after, choices) ? [] : [normWork(after.stage, spec, tokens, choices, false)];
}

/** The norm behind a matrix, where the model has one. */
function postNorm(spec: ModelSpec, tokens: number, before: Matrix, choices: Choices): Work[] {
  return spec.sandwich_norms ? [normWork(before.stage, spec, tokens, choices, false)] : [];
}

/** A norm; `adds`: a branch is added to the residual first. Five operations where not fused. */
function normWork(stage: Stage, spec: ModelSpec, tokens: number, choices: Choices, adds: boolean): Work {
  const added = Number(adds);
  const [residuals, launches] = choices.fused_kernels === "on" ? [2 * added, 1] : [6 + added, 5];
  const bytes = tokens * spec.hidden_size * (residuals * RESIDUAL + 2 * choices.activation_bytes);
  return moving(stage, "reduction", bytes, launches);
}

/** Turn queries and keys, store keys and values; nine times through memory where not fused. */
function rotationWork(spec: ModelSpec, tokens: number, choices: Choices): Work {
  const a = choices.activation_bytes;
  const q = widths(spec).q * tokens;
  const kv = widths(spec).kv * tokens;
  const ends = (q + 2 * kv) * a + 2 * kv * choices.kv_bytes + q * a;
  if (choices.fused_kernels === "on") return moving("kv_write", "elementwise", ends, 1);
  const norms = spec.qk_norm ? (q + kv) * (5 * RESIDUAL + 2 * a) : 0;
  return moving("kv_write", "elementwise", ends + 7 * (q + kv) * a + norms, spec.qk_norm ? 22 : 16);
}

/** act(gate) · up: three elements in and out for each that it makes. */
function gateWork(tokens: number, gateUp: Matrix, choices: Choices): Work[] {
  if (isGemv(tokens, gateUp, choices)) return [];
  const [elements, launches] = choices.fused_kernels === "on" ? [3, 1] : [5, 2];
  const moved = elements * tokens * (gateUp.numOut / 2) * choices.activation_bytes;
  return [moving(gateUp.stage, "elementwise", moved, launches)];
}

/** Scores = q kᵀ and out = scores · v, with every position seen; tiles write only their output. */
function attentionWork(spec: ModelSpec, r: Rows, window: number, choices: Choices, device: Device): Work {
  const { q, kv } = widths(spec);
  const ends = 2 * r.numNew * q * choices.activation_bytes;
  if (choices.attention === "naive") return naiveAttention(spec, r, choices, ends);
  const stored = 2 * kv * choices.kv_bytes * positionsRead(r.numNew, r.prefix, window);
  return {
    stage: "attention",
    kind: "attention",
    flops: r.num * 4 * q * positionsSeen(r.numNew, r.prefix, window),
    bytes: r.num * (ends + stored),
    launches: choices.attention === "flash" ? 1 : 2 * r.num,
    calls: 0,
    weights: 0,
    padFlops: r.num * 4 * q * r.numNew,
    chains: device === "cuda" && choices.attention === "flash" ? flashChains(spec, r) : 1,
  };
}

/** Those of our kernels on a GPU: a shared row has a second one, when its parts are merged. */
function flashChains(spec: ModelSpec, r: Rows): number {
  if (r.numNew > 1) return PROMPT_CHAINS;
  return r.prefix + 1 >= SHARED_POSITIONS && r.num * spec.num_kv_heads <= UNSHARED_HEADS ? 2 : 1;
}

/** The textbook's: the whole rectangle, masked afterwards, and every step through memory. */
function naiveAttention(spec: ModelSpec, r: Rows, choices: Choices, ends: number): Work {
  const { q, kv } = widths(spec);
  const a = choices.activation_bytes;
  const context = r.prefix + r.numNew;
  const scores = spec.num_heads * r.numNew * context;
  const copies = 2 * context * (kv * choices.kv_bytes + 2 * q * a);
  return {
    stage: "attention",
    kind: "attention",
    flops: r.num * 4 * scores * spec.head_dim,
    bytes: r.num * (ends + copies + scores * (8 * RESIDUAL + 4 * a)),
    launches: r.num * 12,
    calls: 0,
    weights: 0,
    padFlops: 0,
    chains: 1,
  };
}

// Sizes

/** Elements of one token's queries, and of its keys (its values are as many). */
function widths(spec: ModelSpec): { q: number; kv: number } {
  return { q: spec.num_heads * spec.head_dim, kv: spec.num_kv_heads * spec.head_dim };
}

/** Bytes of matrices that one step reads. */
export function weightBytes(spec: ModelSpec, choices: Choices): number {
  const { q, kv } = widths(spec);
  const layer = spec.hidden_size * (2 * q + 2 * kv + 3 * spec.intermediate_size);
  const head = spec.vocab_size * spec.hidden_size * (choices.head_bytes || choices.weight_bytes);
  return spec.num_layers * layer * choices.weight_bytes + head;
}

/** Bytes that one token leaves behind in all layers. */
export function kvBytesPerToken(spec: ModelSpec, choices: Choices): number {
  return 2 * spec.num_layers * widths(spec).kv * choices.kv_bytes;
}

// Lists

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** begin, begin + step, …, all below `end`. */
function range(begin: number, end: number, step = 1): number[] {
  return Array.from({ length: Math.ceil((end - begin) / step) }, (_, i) => begin + i * step);
}
