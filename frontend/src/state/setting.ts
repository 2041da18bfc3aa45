// What is drawn: the shown run as it was measured, or what the cost model makes of it with other
// switches, on another machine, or of another model.
//
// While a run is one of the engine behind the page, its picture follows that engine's switches, unless
// the page's address has others. Any other picture has switches of its own, in the address too: then
// choosing one asks "what if", and no engine changes.

import { computed, signal } from "@preact/signals";
import { type Choices, type Counts, type Spec } from "../api/types";
import { phasesOf, type Loaded } from "../data/budget";
import type { Switches } from "../data/curves";
import type { RunFile } from "../data/runfile";
import { isFailed, isWaiting, known, type Failed, type Waiting } from "./asked";
import { calibrations } from "./calibration";
import { counts } from "./counts";
import type { Question } from "./curves";
import { switchesIn, textOf } from "./link";
import { link } from "./navigation";
import { deviceOf, entries, loaded, runA } from "./runs";
import { capabilities } from "./server";
import { wishes } from "./switching";

export interface Setting {
  /** The run that is shown, or whose machine, model and sizes are the beginning of a "what if". */
  readonly loaded: Loaded;
  readonly machine: string;
  readonly shape: string;
  readonly switches: Switches;
}

/** A config.json that somebody pasted; it is no part of an address. */
export const PASTED = "config.json";

const isGpu = (device: string): boolean => device.startsWith("cuda");

/** The switches of the engine behind the page, as they will be when all wishes are granted. */
export const engineSwitches = computed<Switches | null>(() => {
  const rows = capabilities.value?.switches;
  if (!rows) return null;
  return Object.fromEntries(rows.map(({ key, current }) => [key, wishes.value.get(key) ?? current]));
});

/** Whether another machine or model than the shown run's is asked for. */
export const isElsewhere = computed((): boolean => Boolean(link.value.machine || link.value.shape));

/** Whether the picture is one of the engine behind the page, and follows its switches. */
export const followsEngine = computed((): boolean => {
  const [server, shown] = [capabilities.value, runA.value];
  if (!server || isElsewhere.value || link.value.set) return false;
  return !shown || isOfEngine(shown.run.model.name, shown.run.engine.device);
});

function isOfEngine(model: string, device: string): boolean {
  const server = capabilities.value;
  return server !== null && server.model.name === model && isGpu(server.engine.device) === isGpu(device);
}

export const setting = computed<Setting | null>(() => {
  const shown = runA.value;
  if (!shown) return null;
  const { machine, shape, set } = link.value;
  const chosen = followsEngine.value ? engineSwitches.value : switchesIn(set);
  const own = isElsewhere.value ? {} : textual(shown.run);
  return { loaded: shown, machine, shape, switches: { ...own, ...chosen } };
});

/** A run's switches; run files hold numbers among them too. */
export const textual = ({ engine }: RunFile): Switches => settled(engine.switches, engine.device);

/** Switches as the address has them: only what differs from those of the shown run, if they are over
 * such. */
export function setOf(switches: Switches, { loaded: { run } }: Setting): string {
  const own = isElsewhere.value ? {} : textual(run);
  const changed = Object.entries(switches).filter(([key, value]) => own[key] !== value);
  return textOf(Object.fromEntries(changed));
}

/** What `-1`, the default, comes to on either kind of device; older runs have it as it was given. */
const CHUNK = { cuda: "8192", cpu: "512" };

export function settled(switches: Readonly<Record<string, unknown>>, device: string): Switches {
  const text = Object.fromEntries(Object.entries(switches).map(([key, value]) => [key, String(value)]));
  if (text.chunked_prefill === "-1") text.chunked_prefill = isGpu(device) ? CHUNK.cuda : CHUNK.cpu;
  return text;
}

/** Whether a switch bears on the cost of what is looked at: where it does not, any run will do. */
function bears(key: string, switches: Switches): boolean {
  if (key === "chunked_prefill") return link.value.phase !== "decode" || switches.kv_cache === "off";
  return key !== "batching" && key !== "sampler";
}

/**
 * The run in which the setting was measured; null if there is none here.
 *
 * The shown one, if it had these switches; failing that another of the same model and machine.
 */
export function runOf(asked: Setting): Loaded | null {
  if (asked.machine || asked.shape) return null;
  if (hasSwitches(textual(asked.loaded.run), asked.switches)) return asked.loaded;
  return loaded.value.get(fellowOf(asked)) ?? null;
}

/** The id of another run of the same model and machine that had these switches; empty: none. */
export function fellowOf({ loaded: { run }, machine, shape, switches }: Setting): string {
  if (machine || shape || hasSwitches(textual(run), switches)) return "";
  const fellow = entries.value.find(
    (entry) =>
      entry.model === run.model.name &&
      entry.device === deviceOf(run) &&
      phasesOf(link.value.phase).every((phase) => entry.phases.includes(phase)) &&
      hasSwitches(settled(entry.switches, run.engine.device), switches),
  );
  return fellow?.id ?? "";
}

export const hasSwitches = (own: Switches, wanted: Switches): boolean =>
  Object.entries(wanted).every(([key, value]) => !bears(key, wanted) || !(key in own) || own[key] === value);

/** What the cost model is asked for a setting; or why it cannot be. */
export function questionOf({ loaded: { run }, machine, shape }: Setting): Question | Waiting | Failed | null {
  const counted = counts.of(run);
  if (!known(counted)) return counted;
  const { phase: scope, batch, output } = link.value;
  const lengths = [...new Set(run.cells.map(({ length }) => length))].sort((a, b) => a - b);
  const work = { scope, batch, num_outputs: output, lengths };
  if (shape === PASTED && pasted.value === null) return { failed: "no config.json was pasted yet" };
  const what = modelOf(run, counted, shape);
  // Elsewhere everything takes two bytes, unless somebody says otherwise.
  if (machine) return { ...what, machine, choices: {}, packed: {}, ...work };
  const fitted = calibrations.of(run);
  if (isWaiting(fitted)) return fitted;
  const hardware = known(fitted) ? fitted.hardware : counted.sheet;
  if (!hardware) {
    if (isFailed(fitted))
      return { failed: `${fitted.failed.replace(/\.$/, "")}, and there is no data sheet of its machine` };
    return null;
  }
  return { ...what, hardware, ...sizesHere(counted, shape), ...work };
}

/** What was pasted last, in memory only. */
export const pasted = signal<unknown>(null);

function modelOf(
  run: RunFile,
  { spec }: Counts,
  shape: string,
): { name: string; spec?: Spec; shape?: string; config?: unknown } {
  if (!shape) return { name: run.model.name, spec };
  return shape === PASTED ? { name: "the pasted model", config: pasted.value } : { name: shape, shape };
}

const SIZES = ["weight_bytes", "head_bytes"] as const;

/** Of the run's own model its sizes, packed ones if it had such; another model is dense. */
function sizesHere({ choices }: Counts, shape: string): { choices: Choices; packed: Choices } {
  const dense = { ...choices, weight_bytes: choices.activation_bytes ?? 2, head_bytes: 0 };
  if (shape) return { choices: dense, packed: {} };
  const packed = Number(choices.weight_bytes) < Number(choices.activation_bytes);
  const own = Object.fromEntries(SIZES.map((key) => [key, choices[key] ?? 0]));
  return { choices, packed: packed ? own : {} };
}
