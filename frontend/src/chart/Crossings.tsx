// Where attention's edge reaches 5, 10 and 50 %. Attention lies on the axis, so a share is a height.

import type { JSX } from "preact";
import { LEVELS, type Answer } from "../data/answers";
import { tokens } from "../data/words";
import type { Paint } from "../state/theme";
import { LOOKS } from "./fill";
import type { Frame, Scales } from "./geometry";

/** Nearer to the axis than this, a number would run into it. */
const EDGE = 24;

interface Props {
  readonly answer: Answer;
  readonly frame: Frame;
  readonly scales: Scales;
  readonly paint: Paint;
}

export function Crossings({ answer, frame, scales: { x, y }, paint }: Props): JSX.Element {
  const inside = (length: number): number => Math.min(Math.max(x(length), frame.left), frame.right);
  const marks = LEVELS.flatMap(({ key, share }) => {
    const { value, lo, hi, kind, status } = answer[key];
    const seen = value !== null && status === "found" && x(value) >= frame.left && x(value) <= frame.right;
    return seen ? [{ key, at: x(value), height: y(share), value, lo, hi, kind }] : [];
  });
  return (
    <g>
      {marks.map(({ key, at, height, value, lo, hi, kind }) => (
        <g key={key} data-crossing={key}>
          <path
            d={`M${frame.left} ${height}H${at}V${frame.bottom}`}
            fill="none"
            stroke={paint.ink}
            stroke-dasharray="2 3"
          />
          {lo !== null && hi !== null && (
            <path
              d={`M${inside(lo)} ${height}H${inside(hi)}`}
              fill="none"
              stroke={paint.ink}
              stroke-width="2.5"
            />
          )}
          <circle
            cx={at}
            cy={height}
            r="3.5"
            fill={LOOKS[kind].filled ? paint.ink : paint.surface}
            stroke={paint.ink}
            stroke-width="1.5"
          />
          <text
            x={at}
            y={height - 9}
            text-anchor={at - frame.left < EDGE ? "start" : "middle"}
            font-size="12"
            font-weight="600"
            fill={paint.ink}
            stroke={paint.surface}
            stroke-width="3"
            paint-order="stroke"
          >
            {tokens(value)}
          </text>
        </g>
      ))}
    </g>
  );
}
