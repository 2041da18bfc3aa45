// A median and how far to trust it, without assuming how the samples are spread.
//
// Of n samples in order, the true median lies outside [x_k, x_(n+1-k)] with probability 2·P(B < k),
// B binomial(n, ½). We take the greatest k for which that is 5 % or less. Below six samples there is
// none; then the interval is simply the least and the most, and says so.
//
// Source: David & Nagaraja 2003, Order Statistics, section 7.1.

export interface Interval {
  readonly lo: number;
  readonly hi: number;
  /** Bounds: of a difference or a sum, from the ends of the intervals. 90 % band: a model's. */
  readonly how: "95 %" | "least to most" | "bounds" | "90 % band";
}

const MISS = 0.05;

export function medianOf(samples: readonly number[]): { value: number; interval: Interval } {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? NaN;
  const half = (sorted.length - 1) / 2;
  const rank = rankOf(sorted.length);
  return {
    value: (at(Math.floor(half)) + at(Math.ceil(half))) / 2,
    interval: {
      lo: at(Math.max(rank, 1) - 1),
      hi: at(sorted.length - Math.max(rank, 1)),
      how: rank > 0 ? "95 %" : "least to most",
    },
  };
}

/** The greatest k that keeps both tails together within `MISS`, 0 if there is none. */
export function rankOf(n: number): number {
  let term = 0.5 ** n; // P(B = 0)
  let tail = 0;
  for (let k = 1; k <= n / 2; k++) {
    tail += term;
    if (2 * tail > MISS) return k - 1;
    term *= (n - k + 1) / k;
  }
  return Math.floor(n / 2);
}
