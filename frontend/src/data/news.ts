// What the engine tells of its steps, as it says it (`events.py` has the same records), and recordings
// of it that people bring as files, which are checked field by field.

import { BadFile, list, number, oneOf, parse, record, text } from "./fields";

export const DEPARTURES = ["finished", "aborted", "failed", "preempted", "restarted"] as const;
export type Departure = (typeof DEPARTURES)[number];
export const OBSTACLES = ["blocks", "rows", "batch", "sibling"] as const;
export type Obstacle = (typeof OBSTACLES)[number];

export type Happening =
  | {
      readonly type: "queued";
      readonly sequence: number;
      readonly request: string;
      readonly index: number;
      readonly num_tokens: number;
    }
  | {
      readonly type: "admitted";
      readonly sequence: number;
      readonly shared: readonly number[];
      readonly refs: readonly number[];
      readonly num_computed: number;
    }
  | {
      readonly type: "planned";
      readonly sequence: number;
      readonly request: string;
      readonly start: number;
      readonly num_tokens: number;
      readonly samples: boolean;
      readonly blocks: readonly number[];
    }
  | { readonly type: "landed"; readonly sequence: number; readonly num_tokens: number }
  | { readonly type: "forgot"; readonly sequence: number }
  | {
      readonly type: "left";
      readonly sequence: number;
      readonly why: Departure;
      readonly blocks: readonly number[];
    };

export interface StepNews {
  readonly type: "step";
  readonly id: number;
  readonly step: number;
  readonly ns: number;
  readonly happened: readonly Happening[];
  readonly waits: readonly { readonly sequence: number; readonly why: Obstacle }[];
}

export interface SequenceState {
  readonly sequence: number;
  readonly request: string;
  readonly index: number;
  readonly state: "waiting" | "running";
  readonly num_tokens: number;
  readonly computed: number;
  readonly reached: number;
  readonly blocks: readonly number[];
}

export interface Snapshot {
  readonly type: "snapshot";
  readonly id: number;
  readonly step: number;
  readonly ns: number;
  readonly num_blocks: number;
  readonly block_size: number;
  readonly sequences: readonly SequenceState[];
}

export type Telling = Snapshot | StepNews;

/** Words about the stream itself. */
export type Notice =
  | { readonly type: "paused" | "restarting" | "ended"; readonly reason: string }
  | { readonly type: "dropped"; readonly news: number };

export type News = Telling | Notice;

/** A recording as a file. */
export interface EventsFile {
  readonly schema: 1;
  readonly kind: "pellucid-events";
  readonly model: string;
  /** Of all layers; 0: not known. */
  readonly kv_bytes_per_token: number;
  /** Begins with a snapshot; others stand where the stream had a gap. */
  readonly news: readonly Telling[];
}

const NUMBERS: Record<Happening["type"], readonly string[]> = {
  queued: ["index", "num_tokens"],
  admitted: ["num_computed"],
  planned: ["start", "num_tokens"],
  landed: ["num_tokens"],
  forgot: [],
  left: [],
};
const LISTS: Record<Happening["type"], readonly string[]> = {
  queued: [],
  admitted: ["shared", "refs"],
  planned: ["blocks"],
  landed: [],
  forgot: [],
  left: ["blocks"],
};

/** The file's recording; whether its events fit each other is found out by going through them. */
export function parseEvents(source: string): EventsFile {
  const file = record(parse(source), "the file");
  oneOf(file.kind, ["pellucid-events"], "kind");
  if (file.schema !== 1) throw new BadFile(`schema is ${String(file.schema)}; this page reads schema 1.`);
  text(file.model, "model");
  number(file.kv_bytes_per_token, "kv_bytes_per_token");
  const news = list(file.news, "news");
  news.forEach((one, index) => checkTelling(one, `news[${index}]`));
  if (news.length === 0 || (news[0] as Telling).type !== "snapshot")
    throw new BadFile("news[0] has to be a snapshot, which the others go out from.");
  return file as unknown as EventsFile;
}

function checkTelling(value: unknown, at: string): void {
  const one = record(value, at);
  oneOf(one.type, ["snapshot", "step"], `${at}.type`);
  for (const name of ["id", "step", "ns"]) number(one[name], `${at}.${name}`);
  if (one.type === "snapshot") {
    for (const name of ["num_blocks", "block_size"]) number(one[name], `${at}.${name}`);
    list(one.sequences, `${at}.sequences`).forEach((each, k) => checkState(each, `${at}.sequences[${k}]`));
    return;
  }
  list(one.happened, `${at}.happened`).forEach((each, k) => checkHappening(each, `${at}.happened[${k}]`));
  list(one.waits, `${at}.waits`).forEach((each, k) => {
    const waits = record(each, `${at}.waits[${k}]`);
    number(waits.sequence, `${at}.waits[${k}].sequence`);
    oneOf(waits.why, OBSTACLES, `${at}.waits[${k}].why`);
  });
}

function checkState(value: unknown, at: string): void {
  const state = record(value, at);
  for (const name of ["sequence", "index", "num_tokens", "computed", "reached"])
    number(state[name], `${at}.${name}`);
  text(state.request, `${at}.request`);
  oneOf(state.state, ["waiting", "running"], `${at}.state`);
  numbers(state.blocks, `${at}.blocks`);
}

function checkHappening(value: unknown, at: string): void {
  const each = record(value, at);
  oneOf(each.type, Object.keys(NUMBERS), `${at}.type`);
  const type = each.type as Happening["type"];
  for (const name of ["sequence", ...NUMBERS[type]]) number(each[name], `${at}.${name}`);
  for (const name of LISTS[type]) numbers(each[name], `${at}.${name}`);
  if (type === "queued" || type === "planned") text(each.request, `${at}.request`);
  if (type === "left") oneOf(each.why, DEPARTURES, `${at}.why`);
}

function numbers(value: unknown, at: string): void {
  list(value, at).forEach((one, index) => number(one, `${at}[${index}]`));
}
