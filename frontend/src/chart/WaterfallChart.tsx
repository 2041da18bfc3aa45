// From A's wall time to B's in steps, one row each: the picture only. A bar says how much and from
// where to where, a line in ink how far that can be trusted, and a number with its sign which way.

import type { JSX } from "preact";
import type { Figure } from "../data/provenance";
import type { Waterfall } from "../data/waterfall";
import { axisTime, duration, signed } from "../data/words";
import type { Paint } from "../state/theme";
import { fillOf, Hatches } from "./fill";
import { linearScale } from "./scale";
import { Picture } from "./Picture";

const ROW = 26;
const BAR = 14;
const LEFT = 96;
/** Room for a number behind the longest bar. */
const NUMBER = 76;
const AXIS = 24;
/** Pixels for a number on the axis. */
const TICK = 72;
/** So that a bar of almost nothing is still to be seen. */
const LEAST = 1.5;

interface Props {
  readonly waterfall: Waterfall;
  /** Of what it begins and ends with. */
  readonly names: readonly [string, string];
  readonly width: number;
  readonly paint: Paint;
  readonly summary: string;
}

interface Bar {
  readonly label: string;
  readonly color: string;
  readonly figure: Figure;
  readonly text: string;
  readonly from: number;
  readonly to: number;
  /** Where the ends of the interval lie. */
  readonly ends: readonly [number, number];
}

export function WaterfallChart({ waterfall, names, width, paint, summary }: Props): JSX.Element {
  const bars = barsOf(waterfall, names, paint);
  const height = bars.length * ROW + AXIS;
  const reach = bars.flatMap(({ from, to, ends }) => [from, to, ...ends]);
  const x = linearScale([Math.min(0, ...reach), Math.max(...reach)], [LEFT, width - NUMBER]);
  const ticks = x.ticks(Math.max(2, Math.min(5, Math.floor((width - NUMBER - LEFT) / TICK))));
  const top = (row: number): number => row * ROW + (ROW - BAR) / 2;
  return (
    <Picture frame={{ width, height }} summary={summary} look="waterfall">
      <g font-size="12">
        {ticks.map((tick) => (
          <g key={tick} fill={paint.quiet}>
            <line x1={x(tick)} x2={x(tick)} y1={0} y2={height - AXIS} stroke={paint.line} />
            <text x={x(tick)} y={height - 7} text-anchor="middle">
              {axisTime(tick, ticks.at(-1) ?? tick)}
            </text>
          </g>
        ))}
        {bars.map((bar, row) => (
          <g key={bar.label} data-step={bar.label}>
            <Hatches kind={bar.figure.kind} colors={[bar.color]} />
            <rect
              x={Math.min(x(bar.from), x(bar.to))}
              y={top(row)}
              width={Math.max(LEAST, Math.abs(x(bar.to) - x(bar.from)))}
              height={BAR}
              fill={fillOf(bar.figure.kind, bar.color)}
            />
            {row < bars.length - 1 && (
              <path
                d={`M${x(bar.to)} ${top(row)}V${top(row + 1) + BAR}`}
                stroke={paint.quiet}
                stroke-dasharray="2 2"
                fill="none"
              />
            )}
            <path
              d={`M${x(bar.ends[0])} ${top(row) + BAR / 2}H${x(bar.ends[1])}`}
              stroke={paint.ink}
              stroke-width="1.5"
              fill="none"
            />
            <text x={LEFT - 8} y={top(row) + BAR - 3} text-anchor="end" fill={paint.ink}>
              {bar.label}
            </text>
            <text x={x(Math.max(bar.from, bar.to, ...bar.ends)) + 6} y={top(row) + BAR - 3} fill={paint.ink}>
              {bar.text}
            </text>
          </g>
        ))}
      </g>
    </Picture>
  );
}

function barsOf(
  { start, end, steps }: Waterfall,
  [from, to]: readonly [string, string],
  paint: Paint,
): Bar[] {
  const whole = (label: string, figure: Figure): Bar => ({
    label,
    color: paint.quiet,
    figure,
    text: duration(figure.value),
    from: 0,
    to: figure.value,
    ends: [figure.interval.lo, figure.interval.hi],
  });
  const between = steps.map(({ part, change, from, to }) => ({
    label: part.label,
    color: part.color,
    figure: change,
    text: signed(change.value),
    from,
    to,
    ends: [from + change.interval.lo, from + change.interval.hi] as const,
  }));
  return [whole(from, start), ...between, whole(to, end)];
}
