// From numbers to pixels and back: straight, or by ratio. What d3-scale does for us, without the
// colours, dates and interpolators that it brings along, which were a fifth of the page.

export type Ends = readonly [number, number];

export interface Scale {
  (value: number): number;
  invert(at: number): number;
  domain(): Ends;
  range(): Ends;
}

export interface LinearScale extends Scale {
  /** About so many places within the domain, 1, 2 or 5 times a power of ten apart. */
  ticks(count: number): number[];
}

/** Equal differences take equal room. */
export function linearScale(domain: Ends, range: Ends): LinearScale {
  const same = (value: number): number => value;
  return Object.assign(scaleBy(same, same, domain, range), {
    ticks: (count: number) => ticksOf(domain, count),
  });
}

/** Equal ratios take equal room; everything has to be above 0. */
export const logScale = (domain: Ends, range: Ends): Scale => scaleBy(Math.log, Math.exp, domain, range);

type Map = (value: number) => number;

function scaleBy(to: Map, from: Map, domain: Ends, range: Ends): Scale {
  const [low, high] = [to(domain[0]), to(domain[1])];
  const [start, end] = range;
  const span = high - low || 1;
  const scale = (value: number): number => start + ((to(value) - low) / span) * (end - start);
  return Object.assign(scale, {
    invert: (at: number): number => from(low + ((at - start) / (end - start || 1)) * span),
    domain: (): Ends => domain,
    range: (): Ends => range,
  });
}

/** 1, 2 or 5 times a power of ten, so that about `count` of them make `whole`. */
function niceStep(whole: number, count: number): number {
  const rough = whole / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const digit = rough / power;
  // The thresholds are the geometric means of neighbours: √2, √10, √50.
  return power * (digit >= Math.sqrt(50) ? 10 : digit >= Math.sqrt(10) ? 5 : digit >= Math.SQRT2 ? 2 : 1);
}

/** The nearest ticks that hold these ends between them; farther ends can need wider steps. */
export function niceEnds([least, most]: Ends, count: number): Ends {
  if (least === most) return [least, least + 1];
  const step = niceStep(most - least, count);
  const low = tidy(Math.floor(least / step + 1e-9) * step);
  const high = tidy(Math.ceil(most / step - 1e-9) * step);
  return niceStep(high - low, count) === step ? [low, high] : niceEnds([low, high], count);
}

function ticksOf([least, most]: Ends, count: number): number[] {
  const step = niceStep(most - least, count);
  const first = Math.ceil(least / step - 1e-9);
  const last = Math.floor(most / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => tidy((first + index) * step));
}

/** 0.30000000000000004 is 0.3, and there is one zero. */
const tidy = (value: number): number => Number(value.toPrecision(12)) + 0;
