// Large counts and rates as people read them: three digits and a prefix of a thousand each.

import { tokens } from "./words";

const PREFIXES = ["", "k", "M", "G", "T", "P"];

/** 394513981453, "FLOP/s" → "395 GFLOP/s". */
export function scaled(value: number, unit: string): string {
  const rounded = Number(value.toPrecision(3)); // 999,600 is 1.00 M
  const thousands = rounded < 1 ? 0 : Math.floor(Math.log10(rounded) / 3 + 1e-12);
  const step = Math.min(thousands, PREFIXES.length - 1);
  return `${threeDigits(rounded / 1000 ** step)} ${PREFIXES[step]}${unit}`;
}

/** Three significant digits, without a power of ten. */
export function threeDigits(value: number): string {
  const rounded = Number(value.toPrecision(3));
  if (rounded >= 1000) return tokens(rounded);
  if (rounded < 1) return String(rounded);
  return rounded.toFixed(rounded >= 100 ? 0 : rounded >= 10 ? 1 : 2);
}

/** 1.1218 → "+12.2 %", 0.95 → "−4.9 %": how far a ratio is from one. */
export function offBy(ratio: number): string {
  const points = ((ratio - 1) * 100).toFixed(1);
  return Number(points) === 0 ? "0.0 %" : `${ratio > 1 ? "+" : "−"}${points.replace("-", "")} %`;
}

/** 1.5315 → "1.53 ×". */
export const times = (ratio: number): string => `${threeDigits(ratio)} ×`;
