// What the page shows, as the part of its address after `#`: sorted, only what differs from the
// default, with a version in front. Whatever cannot be understood falls back to its default.

import { SCOPES, type Measure, type Scope } from "../data/budget";
import type { Detail } from "../data/stages";

export const VIEWS = [
  "budget",
  "validation",
  "roofline",
  "attention",
  "flash",
  "kv",
  "chat",
  "switches",
  "runs",
] as const;
export type View = (typeof VIEWS)[number];

export interface Link {
  readonly view: View;
  readonly phase: Scope;
  readonly batch: number;
  /** Tokens that a whole request puts out. */
  readonly output: number;
  readonly y: Measure;
  readonly detail: Detail;
  /** Whether the model lies over what was measured. */
  readonly model: "on" | "off";
  /** Tokens at the cursor. */
  readonly length: number;
  /** The stage that is looked at in the roofline. */
  readonly stage: string;
  /** The head that is looked into, counted from 0. */
  readonly layer: number;
  readonly head: number;
  /** The token whose row is looked at, counted from 1; 0: the last. */
  readonly query: number;
  /** Of a text that is shown in tiles of several tokens. */
  readonly cells: "max" | "mean";
  /** Queries and keys of a flash tile; 0: as the kernel has it. */
  readonly tile: number;
  /** Tiles computed so far. */
  readonly step: number;
  /** What is looked into, if it is short; empty: the page's own sentence. */
  readonly text: string;
  /** What if: another machine and model, by name, and other switches; empty: those of the run. */
  readonly machine: string;
  readonly shape: string;
  readonly set: string;
  /** The moment of the KV cache that is looked at, counted from the first one told; 0: the newest. */
  readonly at: number;
  /** The sequence whose blocks stand out; 0: none. */
  readonly sequence: number;
  /** Ids of the runs that are shown; empty: the newest, and none. */
  readonly a: string;
  readonly b: string;
}

export const HOME: Link = {
  view: "budget",
  phase: "decode",
  batch: 1,
  output: 128,
  y: "share",
  detail: "groups",
  model: "off",
  length: 1024,
  stage: "attention",
  layer: 0,
  head: 0,
  query: 0,
  cells: "max",
  tile: 0,
  step: 0,
  text: "",
  machine: "",
  shape: "",
  set: "",
  at: 0,
  sequence: 0,
  a: "",
  b: "",
};

const VERSION = "1";
/** Letters of a text that the address holds; a longer one stays in the page. */
export const BRIEF = 200;

type Reader<T> = (text: string) => T | undefined;

const oneOf =
  <T extends string>(...choices: readonly T[]): Reader<T> =>
  (text) =>
    choices.find((choice) => choice === text);

const count: Reader<number> = (text) => (/^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined);
const place: Reader<number> = (text) => (/^(0|[1-9]\d{0,4})$/.test(text) ? Number(text) : undefined);
const brief: Reader<string> = (text) => (text.length <= BRIEF ? text : undefined);
const name: Reader<string> = (text) => (/^[a-z_]{1,24}$/.test(text) ? text : undefined);
const word: Reader<string> = (text) => (/^[\w.-]{0,40}$/.test(text) ? text : undefined);
const settings: Reader<string> = (text) =>
  /^([a-z_]+:\w+(,[a-z_]+:\w+){0,19})?$/.test(text) ? text : undefined;
const id: Reader<string> = (text) => (/^[0-9a-f]{0,64}$/.test(text) ? text : undefined);

const READERS: { readonly [Key in keyof Link]: Reader<Link[Key]> } = {
  view: oneOf(...VIEWS),
  phase: oneOf(...SCOPES),
  batch: count,
  output: count,
  y: oneOf("share", "ms"),
  detail: oneOf("groups", "stages"),
  model: oneOf("on", "off"),
  length: count,
  stage: name,
  layer: place,
  head: place,
  query: place,
  cells: oneOf("max", "mean"),
  tile: place,
  step: place,
  text: brief,
  machine: word,
  shape: word,
  set: settings,
  at: count,
  sequence: count,
  a: id,
  b: id,
};

/** "kv_cache:off,attention:naive" as a record, and back. */
export const switchesIn = (text: string): Readonly<Record<string, string>> =>
  Object.fromEntries(text ? text.split(",").map((one) => one.split(":") as [string, string]) : []);
export const textOf = (switches: Readonly<Record<string, string>>): string =>
  Object.entries(switches)
    .map(([key, value]) => `${key}:${value}`)
    .sort()
    .join(",");

const KEYS = (Object.keys(READERS) as (keyof Link)[]).sort();

export function encode(link: Link): string {
  const changed = KEYS.filter((key) => link[key] !== HOME[key]);
  if (changed.length === 0) return "";
  return `#v=${VERSION}${changed.map((key) => `&${key}=${encodeURIComponent(link[key])}`).join("")}`;
}

export function decode(hash: string): Link {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  if (given.get("v") !== VERSION) return HOME; // older versions would be translated here
  return KEYS.reduce((link, key) => read(link, key, given.get(key)), HOME);
}

function read<Key extends keyof Link>(link: Link, key: Key, text: string | null): Link {
  const value = text === null ? undefined : READERS[key](text);
  return value === undefined ? link : { ...link, [key]: value };
}
