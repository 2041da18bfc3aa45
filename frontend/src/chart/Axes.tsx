import type { JSX } from "preact";
import type { Measure } from "../data/budget";
import { axisTime, percent, tokens } from "../data/words";
import type { Paint } from "../state/theme";
import { lengthTicks, type Frame, type Scales } from "./geometry";

const SHARES = [0, 0.05, 0.1, 0.25, 0.5, 0.75, 1];
const TICK_ROOM = 56;

interface Props {
  readonly frame: Frame;
  readonly scales: Scales;
  readonly measure: Measure;
  readonly paint: Paint;
  /** What the lengths are lengths of. */
  readonly along: string;
}

export function Axes({ frame, scales: { x, y }, measure, paint, along }: Props): JSX.Element {
  const levels = measure === "share" ? SHARES : y.ticks(4);
  const middle = (frame.left + frame.right) / 2;
  return (
    <g font-size="12" fill={paint.quiet}>
      {levels.map((level) => (
        <g key={level}>
          <line x1={frame.left} x2={frame.right} y1={y(level)} y2={y(level)} stroke={paint.line} />
          <text x={frame.left - 8} y={y(level) + 4} text-anchor="end">
            {measure === "share" ? percent(level, 0) : axisTime(level, levels.at(-1) ?? level)}
          </text>
        </g>
      ))}
      {lengthTicks(x, TICK_ROOM).map((length) => (
        <g key={length}>
          <line x1={x(length)} x2={x(length)} y1={frame.bottom} y2={frame.bottom + 5} stroke={paint.quiet} />
          <text x={x(length)} y={frame.bottom + 19} text-anchor="middle">
            {tokens(length)}
          </text>
        </g>
      ))}
      <text x={middle} y={frame.bottom + 38} text-anchor="middle">
        {along}, logarithmic
      </text>
    </g>
  );
}
