// The outline of what was drawn before: attention's edge and, in times, the whole's. No filling, so
// that it cannot be taken for the picture itself.

import type { JSX } from "preact";
import type { Budget, Measure } from "../data/budget";
import type { Paint } from "../state/theme";
import { bandsOf, type Scales } from "./geometry";

interface Props {
  readonly ghost: Budget;
  readonly measure: Measure;
  readonly scales: Scales;
  readonly paint: Paint;
}

export function Ghost({ ghost, measure, scales, paint }: Props): JSX.Element {
  const bands = bandsOf(ghost, measure, scales);
  const attention = bands.find(({ part }) => part.key === "attention");
  const edges = [attention, measure === "ms" ? bands.at(-1) : undefined].filter((band) => band !== undefined);
  return (
    <g data-ghost="" fill="none">
      {edges.map(({ part, edge }) => (
        <g key={part.key}>
          <path d={edge} stroke={paint.surface} stroke-width="4" />
          <path d={edge} stroke={paint.ink} stroke-width="1.75" stroke-dasharray="7 5" />
        </g>
      ))}
    </g>
  );
}
