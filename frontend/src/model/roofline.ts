// How long each stage of a step takes on some machine, from shapes alone:
//
//     seconds = max(flops / rate, bytes / bandwidth) + launches · cost of one
//
// and, on a GPU without a graph, the queue in which kernels wait for the host or the device.
// The twin of src/pellucid/explore/roofline.py, which explains it.

import type { Kind } from "../data/provenance";
import type { Choices, Device, Group, Load, ModelSpec, Stage, Work, Workload } from "./work";
import { loadOf, sum } from "./work";

export type ModelledStage = Stage | "host_gap";

/** The stages that a budget has. */
export const MODELLED: readonly ModelledStage[] = [
  "host_gap",
  "embed",
  "norm",
  "qkv",
  "kv_write",
  "attention",
  "o_proj",
  "mlp",
  "lm_head",
  "sample",
];

/** A machine: its peaks, how much of each is reached, and what starting work costs. As in JSON. */
export interface Hardware {
  readonly name: string;
  readonly kind: Extract<Kind, "spec" | "calibrated">;
  readonly device: Device;
  /** Peak of matrix arithmetic in the activations' format, per second. */
  readonly flop_s: number;
  /** Peak of memory, bytes per second. */
  readonly bytes_s: number;
  /** Seconds that the host takes to start one kernel of ours. */
  readonly launch_s: number;
  /** The same for a matrix product of a library. */
  readonly library_s: number;
  /** Seconds that a kernel of ours adds where the host need not start it. */
  readonly node_s: number;
  /** The same for a matrix product of a library. */
  readonly library_node_s: number;
  /** Launches that one of attention costs for each chain of reads. */
  readonly attention_launches: number;
  /** Seconds of the host per step, … */
  readonly host_s: number;
  /** … further ones per row … */
  readonly host_row_s: number;
  /** … and per token. */
  readonly host_token_s: number;
  readonly eta_gemm: number;
  /** Rows by which a product costs more than it has. */
  readonly gemm_rows: number;
  readonly eta_gemv: number;
  readonly eta_attention_flops: number;
  /** Positions by which a token's attention costs more than it sees. */
  readonly attention_positions: number;
  readonly eta_attention_bytes: number;
  readonly eta_reduction: number;
  readonly eta_elementwise: number;
  /** A stage may take this times what is computed … */
  readonly fastest: number;
  /** … up to this: the band. */
  readonly slowest: number;
}

export type Bound = "compute" | "bandwidth" | "launch" | "host";

/** What a stage needs and what that takes. Costs add up. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
  readonly launches: number;
  readonly seconds: number;
  readonly parts: Readonly<Record<Bound, number>>;
}

/** Where the time of a decode step, or of a batch of prompts, goes. */
export interface Budget {
  readonly stages: Readonly<Record<ModelledStage, Cost>>;
  /** Tokens that each row gains: 1, or more with accepted drafts. */
  readonly tokensPerRow: number;
}

const NOTHING: Cost = {
  flops: 0,
  bytes: 0,
  launches: 0,
  seconds: 0,
  parts: { compute: 0, bandwidth: 0, launch: 0, host: 0 },
};

/** Flops, bytes and seconds of every stage of `workload`. */
export function budget(spec: ModelSpec, workload: Workload, choices: Choices, hardware: Hardware): Budget {
  return priced(loadOf(spec, workload, choices, hardware.device), hardware);
}

/** What `load` takes on a machine. */
export function priced(load: Load, hardware: Hardware): Budget {
  const stages = Object.fromEntries(MODELLED.map((stage) => [stage, NOTHING])) as Record<ModelledStage, Cost>;
  for (const group of load.groups) {
    const seconds = groupSeconds(group, hardware);
    for (const [index, work] of group.works.entries()) {
      stages[work.stage] = plus(stages[work.stage], costOf(work, seconds[index] ?? 0, hardware), group.count);
    }
  }
  const gap = hostGap(load, hardware, totalSeconds(stages));
  stages.host_gap = { ...NOTHING, seconds: gap, parts: { ...NOTHING.parts, host: gap } };
  return { stages, tokensPerRow: load.tokensPerRow };
}

/** Seconds of all stages together. */
export function secondsOf(found: Budget): number {
  return totalSeconds(found.stages);
}

/** The part of the time that goes to `stage`, from 0 to 1. */
export function shareOf(found: Budget, stage: ModelledStage = "attention"): number {
  return found.stages[stage].seconds / secondsOf(found);
}

/** What most of a stage's time goes to. */
export function boundOf({ parts }: Cost): Bound {
  const bounds: readonly Bound[] = ["compute", "bandwidth", "launch", "host"];
  return bounds.reduce((most, bound) => (parts[bound] > parts[most] ? bound : most));
}

function totalSeconds(stages: Readonly<Record<ModelledStage, Cost>>): number {
  return sum(MODELLED.map((stage) => stages[stage].seconds));
}

/** Seconds that the device waits for the host. */
function hostGap(load: Load, hardware: Hardware, deviceS: number): number {
  const more = load.numRows * hardware.host_row_s + load.numTokens * hardware.host_token_s;
  const hostS = load.numPlans * hardware.host_s + more;
  return load.hidesHost ? Math.max(0, hostS - deviceS) : hostS;
}

/** `total` and `count` times `cost`. */
function plus(total: Cost, cost: Cost, count: number): Cost {
  return {
    flops: total.flops + count * cost.flops,
    bytes: total.bytes + count * cost.bytes,
    launches: total.launches + count * cost.launches,
    seconds: total.seconds + count * cost.seconds,
    parts: {
      compute: total.parts.compute + count * cost.parts.compute,
      bandwidth: total.parts.bandwidth + count * cost.parts.bandwidth,
      launch: total.parts.launch + count * cost.parts.launch,
      host: total.parts.host + count * cost.parts.host,
    },
  };
}

/** What each of these kernels takes, one behind the other. */
function groupSeconds({ works, launching }: Group, hardware: Hardware): number[] {
  const weight = ({ kind, chains }: Work): number =>
    kind === "attention" ? hardware.attention_launches * chains : 1;
  const roofs = works.map((work) => {
    const { compute, bandwidth } = roofSeconds(work, hardware);
    return Math.max(compute, bandwidth);
  });
  const host = works.map(
    (work) => weight(work) * work.launches * hardware.launch_s + work.calls * hardware.library_s,
  );
  if (launching === "at once") return added(roofs, host);
  const nodes = works.map(
    (work) => weight(work) * work.launches * hardware.node_s + work.calls * hardware.library_node_s,
  );
  const device = added(roofs, nodes);
  return launching === "ready" ? device : queued(device, host);
}

const added = (a: readonly number[], b: readonly number[]): number[] =>
  a.map((value, index) => value + (b[index] ?? 0));

/**
 * Seconds from one kernel's end to the next one's, in the second of two rounds: before that, the
 * queue fills. deviceS: what each kernel takes; hostS: what launching it takes.
 */
function queued(deviceS: readonly number[], hostS: readonly number[]): number[] {
  let issued = 0;
  let ended = 0;
  const round = (): number[] =>
    deviceS.map((workS, index) => {
      issued += hostS[index] ?? 0;
      const end = Math.max(ended, issued) + workS;
      const lap = end - ended;
      ended = end;
      return lap;
    });
  round();
  return round();
}

/** What `work` takes, which is `seconds`: what its roofs do not explain goes to launching. */
function costOf(work: Work, seconds: number, hardware: Hardware): Cost {
  const { compute, bandwidth } = roofSeconds(work, hardware);
  return {
    flops: work.flops,
    bytes: work.bytes,
    launches: work.launches + work.calls,
    seconds,
    parts: { compute, bandwidth, launch: seconds - Math.max(compute, bandwidth), host: 0 },
  };
}

/** What the arithmetic of `work` would take alone, and what its traffic would. */
function roofSeconds(work: Work, hardware: Hardware): { compute: number; bandwidth: number } {
  const reached = efficiencies(work.kind, hardware);
  const flops = work.flops + reached.padding * work.padFlops;
  return {
    compute: flops / (hardware.flop_s * reached.flops),
    bandwidth: work.bytes / (hardware.bytes_s * reached.bytes),
  };
}

/** Parts of the peaks that work of this kind reaches, and how far it is padded. */
function efficiencies(
  kind: Work["kind"],
  hardware: Hardware,
): { flops: number; bytes: number; padding: number } {
  switch (kind) {
    case "matrix":
      return { flops: hardware.eta_gemm, bytes: hardware.eta_gemv, padding: hardware.gemm_rows };
    case "attention":
      return {
        flops: hardware.eta_attention_flops,
        bytes: hardware.eta_attention_bytes,
        padding: hardware.attention_positions,
      };
    case "reduction":
      return { flops: 1, bytes: hardware.eta_reduction, padding: 0 };
    case "elementwise":
      return { flops: 1, bytes: hardware.eta_elementwise, padding: 0 };
  }
}
