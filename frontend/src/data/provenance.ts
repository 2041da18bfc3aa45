// Where a number comes from. Nothing can be drawn without it: charts and tables take only a `Figure`,
// and a `Figure` is made from samples or a model and its kind, and in no other way.

import { medianOf, type Interval } from "./median";

/** From the strongest to the weakest. */
export const KINDS = ["measured", "recorded", "calibrated", "spec"] as const;
export type Kind = (typeof KINDS)[number];

export const KIND_WORDS: Record<Kind, string> = {
  measured: "measured here",
  recorded: "recorded",
  calibrated: "modelled, calibrated",
  spec: "modelled, not validated here",
};

/** The same in one word, for a table's narrow column. */
export const KIND_WORD: Record<Kind, string> = {
  measured: "measured",
  recorded: "recorded",
  calibrated: "calibrated",
  spec: "data sheet",
};

/** A total is worth what its weakest part is worth. */
export function weakest(kinds: readonly Kind[]): Kind {
  return KINDS[Math.max(0, ...kinds.map((kind) => KINDS.indexOf(kind)))] ?? "spec";
}

export const isModelled = (kind: Kind): boolean => kind === "calibrated" || kind === "spec";

export function isKind(value: unknown): value is Kind {
  return KINDS.some((kind) => kind === value);
}

export class Figure {
  /** Never there; it makes an object literal of the same shape no `Figure`. */
  declare protected readonly made: never;

  private constructor(
    readonly value: number,
    readonly interval: Interval,
    readonly n: number,
    readonly kind: Kind,
  ) {}

  static median(samples: readonly number[], kind: Kind): Figure {
    const { value, interval } = medianOf(samples);
    return new Figure(value, interval, samples.length, kind);
  }

  /**
   * The mean of some of the samples; how far to trust it is said by all of them.
   *
   * weights: what each sample counts for, such as the wall time that a share is of.
   */
  static mean(
    samples: readonly number[],
    places: readonly number[],
    kind: Kind,
    weights?: readonly number[],
  ): Figure {
    const weight = (place: number): number => weights?.[place] ?? 1;
    const total = places.reduce((sum, place) => sum + weight(place), 0);
    const value = places.reduce((sum, place) => sum + weight(place) * (samples[place] ?? NaN), 0) / total;
    return new Figure(value, medianOf(samples).interval, samples.length, kind);
  }

  /** What a model says, with its band; no sample is behind it. */
  static modelled(value: number, lo: number, hi: number, kind: Kind): Figure {
    return new Figure(value, { lo, hi, how: "90 % band" }, 0, kind);
  }

  /** Medians added up; the ends of their intervals are too. */
  static total(figures: readonly Figure[]): Figure {
    const sum = (of: (figure: Figure) => number): number =>
      figures.reduce((total, figure) => total + of(figure), 0);
    return new Figure(
      sum((figure) => figure.value),
      { lo: sum((figure) => figure.interval.lo), hi: sum((figure) => figure.interval.hi), how: "bounds" },
      Math.min(...figures.map((figure) => figure.n)),
      weakest(figures.map((figure) => figure.kind)),
    );
  }

  /** `a` − `b` of two runs. Their blocks are no pairs, so the interval is as wide as both allow. */
  static difference(a: Figure, b: Figure): Figure {
    const lo = a.interval.lo - b.interval.hi;
    const hi = a.interval.hi - b.interval.lo;
    return new Figure(
      a.value - b.value,
      { lo, hi, how: "bounds" },
      Math.min(a.n, b.n),
      weakest([a.kind, b.kind]),
    );
  }
}
