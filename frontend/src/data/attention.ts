// What the server says of one head and one text, and how it is read. No drawing here.

import { percent, tokens } from "./words";

export interface Attention {
  readonly tokens: readonly { readonly id: number; readonly text: string }[];
  readonly num_tokens: number;
  readonly layer: number;
  readonly head: number;
  readonly kv_head: number;
  readonly group: number;
  readonly num_layers: number;
  readonly num_heads: number;
  readonly num_kv_heads: number;
  readonly head_dim: number;
  /** Tokens that a query of this layer sees; 0: all before it. */
  readonly window: number;
  readonly backend: string;
  readonly device: string;
  readonly dtype: string;
  readonly difference: { readonly head: number; readonly layer: number };
  readonly matrix: Matrix;
  /** Of each query its best keys: position and weight. */
  readonly top: readonly (readonly (readonly [number, number])[])[];
  readonly mass: {
    readonly starts: readonly number[];
    readonly rows: readonly (readonly number[])[];
    readonly mean: readonly number[];
  };
  /** Of each query its weight on the first token. */
  readonly first: readonly number[];
  readonly costs: readonly Cost[];
  readonly thumbnails?: Thumbnails;
  readonly flash?: Flash;
}

export interface Matrix {
  /** Tokens of a cell's edge. */
  readonly edge: number;
  /** Row i has i + 1 numbers. */
  readonly max: Triangle;
  readonly mean: Triangle | null;
}

export type Triangle = readonly (readonly number[])[];

export interface Cost {
  readonly length: number;
  readonly scores: number;
  readonly head_bytes: number;
  readonly layer_bytes: number;
  readonly model_bytes: number;
  readonly flash_bytes: number;
}

export interface Thumbnails {
  readonly edge: number;
  /** By layer and head: `edge`² bytes in base64, 255·√weight. */
  readonly heads: readonly (readonly string[])[];
  readonly first: readonly (readonly number[])[];
}

type Ends = readonly [number, number];

export interface FlashTile {
  readonly queries: Ends;
  readonly keys: Ends;
  readonly skipped: "" | "after" | "before";
  /** Of each query; only where the tile was not skipped. */
  readonly peak?: readonly (number | null)[];
  readonly total?: readonly number[];
  readonly rescale?: readonly number[];
  readonly norm?: readonly number[];
}

export interface FlashStep {
  readonly keys: Ends;
  readonly skipped: "" | "after" | "before";
  readonly peak: number | null;
  readonly total: number;
  readonly rescale: number;
  readonly partial: readonly number[];
}

export interface Flash {
  readonly block_m: number;
  readonly block_n: number;
  readonly source: "chosen" | "kernel" | "even";
  readonly kernel: { readonly lines: number; readonly queries: number; readonly keys: number } | null;
  readonly tiles: readonly FlashTile[];
  readonly bytes_tiled: readonly number[];
  readonly bytes_written: readonly number[];
  readonly row: number;
  readonly course: readonly FlashStep[];
  readonly error: number;
  readonly error_to_backend: number;
}

export type Cells = "max" | "mean";

/** Tokens as they can be told apart: a space is ␣, a line end ⏎, and a byte keeps its number. */
export const shown = (text: string): string =>
  text
    .replace(/^bytes:/, "")
    .replaceAll(" ", "␣")
    .replaceAll("\n", "⏎")
    .replaceAll("\t", "⇥");

/** `12 “cat”`; tokens are counted from 1. */
export function nameOf({ tokens: all }: Pick<Attention, "tokens">, place: number): string {
  return `${tokens(place + 1)} “${shown(all[place]?.text ?? "")}”`;
}

export const cellsOf = ({ max, mean }: Matrix, cells: Cells): Triangle =>
  cells === "mean" && mean ? mean : max;

/** The weights of a query by key, or of its row of tiles; 0 for what it does not see. */
export const rowOf = (matrix: Matrix, cells: Cells, query: number): readonly number[] =>
  cellsOf(matrix, cells)[Math.floor(query / matrix.edge)] ?? [];

/** The first position that a query sees. */
export const firstSeen = (query: number, window: number): number =>
  window ? Math.max(0, query + 1 - window) : 0;

/** "2–3", "0", "64 and more" for the last of several. */
export function distances(starts: readonly number[]): string[] {
  return starts.map((start, index) => {
    const next = starts[index + 1];
    if (next === undefined && index > 1) return `${tokens(start)} +`;
    return next === undefined || next === start + 1 ? tokens(start) : `${tokens(start)}–${tokens(next - 1)}`;
  });
}

/** The mean over all queries that see another token than the first. */
export function meanFirst(first: readonly number[]): number {
  const later = first.length > 1 ? first.slice(1) : first;
  return later.reduce((sum, value) => sum + value, 0) / Math.max(1, later.length);
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** 1310720 → "1.31 MB". */
export function inBytes(count: number): string {
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), UNITS.length - 1);
  const value = count / 1000 ** power;
  return `${power === 0 ? value : Number(value.toPrecision(3))} ${UNITS[power] ?? ""}`;
}

/** 0.000123 → "1.2 × 10⁻⁴". */
export function small(value: number): string {
  if (value === 0) return "0";
  if (value >= 0.001) return value.toPrecision(2);
  const [digits = "", power = ""] = value.toExponential(1).split("e-");
  return `${digits} × 10⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]).join("")}`;
}

/** "token 12 “cat”: 45.2 % on 1 “The”, 12.0 % on …". */
export function spokenRow(view: Attention, query: number): string {
  const best = (view.top[query] ?? []).slice(0, 3);
  const said = best.map(([place, weight]) => `${percent(weight)} on ${nameOf(view, place)}`);
  return `token ${nameOf(view, query)}: ${said.join(", ")}`;
}

export const clamp = (value: number, least: number, most: number): number =>
  Math.min(Math.max(value, least), Math.max(most, least));
