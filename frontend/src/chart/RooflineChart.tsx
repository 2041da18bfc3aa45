// The roofline: how fast each stage was, at how much arithmetic for each byte it moves. No point can
// lie above the roof of the rate and the bandwidth, unless a cache spares bytes that were counted.

import type { JSX } from "preact";
import type { Kind } from "../data/provenance";
import { scaled } from "../data/rates";
import { tokens } from "../data/words";
import { ridgeOf, roofAt, type Reached } from "../data/reached";
import type { Limits } from "../api/types";
import type { Paint } from "../state/theme";
import { LOOKS } from "./fill";
import type { Frame } from "./geometry";
import { LogAxes } from "./LogAxes";
import { beside, planeOf, type Plane } from "./plane";
import { Picture } from "./Picture";

/** Of the text beside a point: between lines, to the point, and of a letter. */
const LABEL = { gap: 15, off: 20, letter: 7.5 };
const ROOM = 3;

export interface Roof {
  readonly name: string;
  readonly limits: Limits;
  readonly kind: Kind;
}

/** A stage's points, the shortest length first, and how it is called and coloured. */
export interface Trail {
  readonly key: string;
  readonly label: string;
  readonly color: string;
  readonly points: readonly Reached[];
}

export interface RooflineProps {
  readonly trails: readonly Trail[];
  readonly roofs: readonly Roof[];
  readonly length: number;
  readonly chosen: string;
  readonly frame: Frame;
  readonly paint: Paint;
  readonly summary: string;
  readonly onPick: (stage: string) => void;
}

export function RooflineChart(props: RooflineProps): JSX.Element {
  const { trails, roofs, length, chosen, frame, paint, summary, onPick } = props;
  const plane = planeFor(trails, roofs, frame);
  const highest = Math.max(...roofs.map(({ limits }) => limits.flop_s));
  const marks = labelled(marksOf(trails, length, plane), frame);
  return (
    <Picture frame={frame} summary={summary} look="chart plain">
      <LogAxes
        frame={frame}
        plane={plane}
        across={{ title: "arithmetic intensity, FLOP per byte", text: tokensOrLess }}
        up={{ title: "FLOP/s reached", text: short }}
        paint={paint}
      />
      {roofs.map((roof) => (
        <RoofLine
          key={roof.name}
          roof={roof}
          below={roof.limits.flop_s < highest}
          plane={plane}
          frame={frame}
          paint={paint}
        />
      ))}
      {trails.map((trail) => (
        <TrailLine key={trail.key} trail={trail} plane={plane} />
      ))}
      {marks.map((mark) => (
        <PointMark
          key={mark.trail.key}
          mark={mark}
          chosen={mark.trail.key === chosen}
          paint={paint}
          onPick={onPick}
        />
      ))}
      <text x={frame.right} y="12" text-anchor="end" font-size="12" fill={paint.quiet}>
        {`large points: ${tokens(length)} tokens`}
      </text>
    </Picture>
  );
}

/** "10 G" and "0.5", not "10.0 G" and "0.50": ticks are round. */
const short = (rate: number): string => scaled(rate, "").replace(/\.0+ /, " ");
const tokensOrLess = (value: number): string => (value < 1 ? String(value) : tokens(value));

interface Mark {
  readonly trail: Trail;
  readonly point: Reached;
  readonly x: number;
  readonly y: number;
}

interface Labelled extends Mark {
  /** On which side of the point its name stands, and at what height. */
  readonly side: 1 | -1;
  readonly height: number;
}

function marksOf(trails: readonly Trail[], length: number, { x, y }: Plane): Mark[] {
  return trails.flatMap((trail) => {
    const point = trail.points.find((found) => found.length === length);
    return point ? [{ trail, point, x: x(point.intensity), y: y(point.rate.value) }] : [];
  });
}

/** Names stand to the right, or to the left where another point or the edge is in the way. */
function labelled(marks: readonly Mark[], frame: Frame): Labelled[] {
  const sides = marks.map((mark): 1 | -1 => {
    const end = mark.x + LABEL.off + LABEL.letter * mark.trail.label.length;
    const blocked = marks.some(
      (other) =>
        other !== mark &&
        other.x > mark.x + 2 &&
        other.x < end + LABEL.gap &&
        Math.abs(other.y - mark.y) < LABEL.gap,
    );
    return blocked || end > frame.right ? -1 : 1;
  });
  const heights = new Map<Mark, number>();
  for (const side of [1, -1]) {
    const group = marks.filter((_, index) => sides[index] === side);
    const placed = beside(group, 12 * LABEL.letter, LABEL.gap, frame.top + 8, frame.bottom - 8);
    group.forEach((mark, index) => heights.set(mark, placed[index] ?? mark.y));
  }
  return marks.map((mark, index) => ({
    ...mark,
    side: sides[index] ?? 1,
    height: heights.get(mark) ?? mark.y,
  }));
}

interface MarkProps {
  readonly mark: Labelled;
  readonly chosen: boolean;
  readonly paint: Paint;
  readonly onPick: (stage: string) => void;
}

function PointMark({ mark, chosen, paint, onPick }: MarkProps): JSX.Element {
  const { trail, point, x, y, side, height } = mark;
  return (
    <g data-stage={trail.key} onClick={() => onPick(trail.key)}>
      {chosen && <circle cx={x} cy={y} r="10" fill="none" stroke={paint.ink} stroke-width="1.5" />}
      <circle
        cx={x}
        cy={y}
        r="6"
        fill={LOOKS[point.rate.kind].filled ? trail.color : paint.surface}
        stroke={trail.color}
        stroke-width="2.5"
      />
      <path
        d={`M${x + 11 * side} ${y}L${x + 16 * side} ${height}`}
        stroke={trail.color}
        stroke-width="1.5"
        fill="none"
      />
      <text
        x={x + LABEL.off * side}
        y={height + 4}
        text-anchor={side > 0 ? "start" : "end"}
        font-size="12"
        font-weight={chosen ? "600" : "400"}
        fill={paint.ink}
        stroke={paint.surface}
        stroke-width="3"
        paint-order="stroke"
      >
        {trail.label}
      </text>
    </g>
  );
}

/** All points, and the ridge of every roof with some of the flat behind it. */
function planeFor(trails: readonly Trail[], roofs: readonly Roof[], frame: Frame): Plane {
  const points = trails.flatMap((trail) => trail.points);
  const across = [...points.map((point) => point.intensity), ...roofs.map(({ limits }) => ridgeOf(limits))];
  const least = Math.min(...across) / ROOM;
  const most = Math.max(...across) * ROOM;
  const rates = points.map((point) => point.rate.value);
  const tops = roofs.map(({ limits }) => limits.flop_s);
  const lowest = Math.min(...rates, ...roofs.map(({ limits }) => roofAt(least * ROOM, limits)));
  return planeOf([least, most], [lowest / ROOM, Math.max(...tops, ...rates) * ROOM], frame);
}

interface RoofProps {
  readonly roof: Roof;
  /** Whether its name stands below its line: the higher roof's stands above. */
  readonly below: boolean;
  readonly plane: Plane;
  readonly frame: Frame;
  readonly paint: Paint;
}

function RoofLine({
  roof: { name, limits, kind },
  below,
  plane: { x, y },
  frame,
  paint,
}: RoofProps): JSX.Element {
  const [lowest = 1] = y.domain();
  const [least = 1, most = 1] = x.domain();
  const from = Math.max(least, lowest / limits.bytes_s);
  const ridge = ridgeOf(limits);
  const spots = [from, ridge, most].map((at) => `${x(at)} ${y(roofAt(at, limits))}`);
  const label = `${name}: ${scaled(limits.flop_s, "FLOP/s")}, ${scaled(limits.bytes_s, "B/s")}`;
  // Below the line, a long name has to stay clear of the slope as well.
  const begin = x.invert(frame.right - LABEL.letter * label.length);
  const height = below ? y(Math.min(limits.flop_s, roofAt(begin, limits))) + 20 : y(limits.flop_s) - 7;
  const text = { "font-size": "12", fill: paint.ink, stroke: paint.surface, "stroke-width": "3" };
  return (
    <g data-roof={kind}>
      <path
        d={`M${spots.join("L")}`}
        fill="none"
        stroke={paint.ink}
        stroke-width={kind === "spec" ? "1.25" : "2"}
        stroke-dasharray={LOOKS[kind].dash}
      />
      <text x={frame.right} y={height} text-anchor="end" {...text} paint-order="stroke">
        {label}
      </text>
    </g>
  );
}

function TrailLine({
  trail: { points, color },
  plane: { x, y },
}: {
  trail: Trail;
  plane: Plane;
}): JSX.Element {
  const spots = points.map((point) => ({ x: x(point.intensity), y: y(point.rate.value) }));
  return (
    <g data-trail="">
      <path d={`M${spots.map((spot) => `${spot.x} ${spot.y}`).join("L")}`} fill="none" stroke={color} />
      {spots.map((spot, index) => (
        <circle key={index} cx={spot.x} cy={spot.y} r="2" fill={color} />
      ))}
    </g>
  );
}
