import type { JSX } from "preact";
import type { Paint } from "../state/theme";
import type { Frame } from "./geometry";
import { powers, type Plane } from "./plane";

/** Room that a number takes on an axis. */
const WIDE = 52;

interface Axis {
  readonly title: string;
  readonly text: (value: number) => string;
}

interface Props {
  readonly frame: Frame;
  readonly plane: Plane;
  readonly across: Axis;
  readonly up: Axis;
  readonly paint: Paint;
}

/** Two logarithmic axes with a grid; the name of the upright one stands above it. */
export function LogAxes({ frame, plane: { x, y }, across, up, paint }: Props): JSX.Element {
  const ticks = powers(x);
  const every = Math.ceil((ticks.length * WIDE) / (frame.right - frame.left));
  return (
    <g font-size="12" fill={paint.quiet}>
      {powers(y).map((value) => (
        <g key={value}>
          <line x1={frame.left} x2={frame.right} y1={y(value)} y2={y(value)} stroke={paint.line} />
          <text x={frame.left - 8} y={y(value) + 4} text-anchor="end">
            {up.text(value)}
          </text>
        </g>
      ))}
      {ticks.map((value, index) => (
        <g key={value}>
          <line x1={x(value)} x2={x(value)} y1={frame.top} y2={frame.bottom} stroke={paint.line} />
          {index % every === 0 && (
            <text x={x(value)} y={frame.bottom + 19} text-anchor="middle">
              {across.text(value)}
            </text>
          )}
        </g>
      ))}
      <text x={(frame.left + frame.right) / 2} y={frame.bottom + 38} text-anchor="middle">
        {across.title}
      </text>
      <text x="0" y="12">
        {up.title}
      </text>
    </g>
  );
}
