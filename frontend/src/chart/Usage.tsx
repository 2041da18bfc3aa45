// How full the pool was at each moment, above the slider that chooses one.

import type { JSX } from "preact";
import type { Mark } from "../data/recording";
import type { Paint } from "../state/theme";
import { Picture } from "./Picture";
import { linearScale } from "./scale";

const HEIGHT = 54;
const TOP = 12;

interface Props {
  readonly marks: readonly Mark[];
  /** The place of the moment that is shown among `marks`. */
  readonly at: number;
  readonly width: number;
  /** Room at both ends, for half a thumb of the slider. */
  readonly margin: number;
  readonly paint: Paint;
  readonly summary: string;
}

export function Usage({ marks, at, width, margin, paint, summary }: Props): JSX.Element {
  const most = Math.max(1, ...marks.map(({ used }) => used));
  const x = linearScale([0, Math.max(1, marks.length - 1)], [margin, width - margin]);
  const y = linearScale([0, most], [HEIGHT - 1, TOP]);
  const points = thinned(marks, width);
  const line = points.map(({ place, used }) => `${x(place).toFixed(1)} ${y(used).toFixed(1)}`).join("L");
  const ends = `L${x(marks.length - 1).toFixed(1)} ${HEIGHT - 1}L${x(0).toFixed(1)} ${HEIGHT - 1}Z`;
  return (
    <Picture frame={{ width, height: HEIGHT }} summary={summary} look="usage">
      {points.length > 1 && <path d={`M${line}${ends}`} fill={paint.quiet} fill-opacity={0.18} />}
      {points.length > 1 && <path d={`M${line}`} fill="none" stroke={paint.quiet} stroke-width={1.5} />}
      <line x1={margin} x2={width - margin} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} stroke={paint.line} />
      {marks.map(
        ({ preempted }, place) =>
          preempted && (
            <path
              key={place}
              data-mark="preempted"
              d={`M${x(place) - 4} 1H${x(place) + 4}L${x(place)} 8Z`}
              fill={paint.ink}
            />
          ),
      )}
      <line x1={x(at)} x2={x(at)} y1={TOP - 2} y2={HEIGHT} stroke={paint.ink} stroke-width={1.5} />
    </Picture>
  );
}

/** At most two points a pixel, the fullest of each stretch. */
function thinned(marks: readonly Mark[], width: number): { place: number; used: number }[] {
  const stretch = Math.max(1, Math.ceil(marks.length / (2 * width)));
  const found: { place: number; used: number }[] = [];
  for (let from = 0; from < marks.length; from += stretch) {
    const part = marks.slice(from, from + stretch);
    const used = Math.max(...part.map((mark) => mark.used));
    found.push({ place: from + part.findIndex((mark) => mark.used === used), used });
  }
  return found;
}
