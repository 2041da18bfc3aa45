// Numbers and dates as people read them.

import { format } from "d3-format";

const grouped = format(",d");

/** 13189 → "13,189". */
export const tokens = (count: number): string => grouped(count);

/** 13189 → "13,189 tokens", 1 → "1 token"; of a kind: "128 output tokens". */
export const inTokens = (count: number, of = ""): string =>
  `${tokens(count)} ${of && `${of} `}${count === 1 ? "token" : "tokens"}`;

/** By how much a count changes: "+1,024", "−80", "0". */
export const change = (count: number): string => (count > 0 ? `+${tokens(count)}` : tokens(count));

/** 0.1234 → "12.3 %". */
export const percent = (share: number, digits = 1): string => `${minus((share * 100).toFixed(digits))} %`;

export const percents = (lo: number, hi: number): string =>
  `${minus((lo * 100).toFixed(1))} to ${percent(hi)}`;

interface Unit {
  readonly name: string;
  readonly ms: number;
}

/** The unit that suits so many milliseconds. */
function unitOf(ms: number): Unit {
  const size = Math.abs(ms);
  if (size >= 1000) return { name: "s", ms: 1000 };
  return size >= 1 || size === 0 ? { name: "ms", ms: 1 } : { name: "µs", ms: 1e-3 };
}

/** Milliseconds with three significant digits. */
export function duration(ms: number): string {
  const unit = unitOf(ms);
  return `${minus(digits(ms / unit.ms))} ${unit.name}`;
}

/** The same with its sign, for a change: "+1.23 ms". */
export const signed = (ms: number): string => (ms > 0 ? `+${duration(ms)}` : duration(ms));

/** Both ends in the unit and with the digits of the larger one. */
export function durations(lo: number, hi: number): string {
  const larger = Math.abs(lo) > Math.abs(hi) ? lo : hi;
  const unit = unitOf(larger);
  const places = decimals(larger / unit.ms);
  return `${minus((lo / unit.ms).toFixed(places))} to ${minus((hi / unit.ms).toFixed(places))} ${unit.name}`;
}

/** Times on an axis: all in the unit of the largest, no more digits than they need. */
export function axisTime(ms: number, largest: number): string {
  const unit = unitOf(largest);
  return `${Number((ms / unit.ms).toPrecision(6))} ${unit.name}`;
}

const digits = (value: number): string => value.toFixed(decimals(value));

function decimals(value: number): number {
  const size = Math.abs(value);
  return size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : 2;
}

// "-0.0" is zero; a hyphen is not a minus.
function minus(text: string): string {
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** The day of an ISO date. */
export const day = (iso: string): string => iso.slice(0, 10);

/** 2026-11-25 00:13, as the file has it. */
export const minute = (iso: string): string => iso.slice(0, 16).replace("T", " ");

/** Two names in a row never differ by accident in eight hex digits. */
export const short = (id: string): string => id.slice(0, 8);
