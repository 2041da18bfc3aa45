// The lengths that were looked at, on attention's edge, with how far each can be trusted.

import type { JSX } from "preact";
import type { Budget, Measure } from "../data/budget";
import type { Paint } from "../state/theme";
import { LOOKS } from "./fill";
import type { Scales } from "./geometry";

interface Props {
  readonly budget: Budget;
  readonly measure: Measure;
  readonly scales: Scales;
  readonly paint: Paint;
}

export function Points({ budget, measure, scales: { x, y }, paint }: Props): JSX.Element {
  return (
    <g>
      {budget.columns.map(({ length, amounts }) => {
        const figure = amounts.get("attention")?.[measure];
        if (!figure) return null;
        const at = x(length);
        return (
          <g key={length}>
            <path
              d={`M${at} ${y(figure.interval.lo)}V${y(figure.interval.hi)}`}
              stroke={paint.ink}
              stroke-width="1.5"
              fill="none"
            />
            <circle
              cx={at}
              cy={y(figure.value)}
              r="2.5"
              fill={LOOKS[figure.kind].filled ? paint.ink : paint.surface}
              stroke={paint.ink}
              stroke-width="1.25"
            />
          </g>
        );
      })}
    </g>
  );
}
