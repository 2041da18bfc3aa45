// How much weight goes how far back: bars of the chosen query, and a line across each for the mean
// of all queries.

import type { JSX } from "preact";
import { distances, type Attention } from "../data/attention";
import { percent } from "../data/words";
import type { Paint } from "../state/theme";
import { Picture } from "./Picture";

const ROW = 24;
const BAR = 13;
const LEFT = 74;
const NUMBER = 58;

interface Props {
  readonly mass: Attention["mass"];
  readonly query: number;
  readonly width: number;
  readonly paint: Paint;
  readonly color: string;
  readonly summary: string;
}

export function MassChart({ mass, query, width, paint, color, summary }: Props): JSX.Element {
  const names = distances(mass.starts);
  const own = mass.rows[query] ?? [];
  const most = Math.max(...own, ...mass.mean, 0.01);
  const x = (share: number): number => LEFT + (share / most) * (width - LEFT - NUMBER);
  const height = names.length * ROW + 4;
  return (
    <Picture frame={{ width, height }} summary={summary} look="mass">
      <g font-size="12" fill={paint.quiet}>
        {names.map((name, row) => {
          const top = row * ROW + 4;
          const share = own[row] ?? 0;
          const mean = x(mass.mean[row] ?? 0);
          return (
            <g key={name}>
              <text x={LEFT - 8} y={top + BAR - 2} text-anchor="end">
                {name}
              </text>
              <rect x={LEFT} y={top} width={Math.max(0, x(share) - LEFT)} height={BAR} fill={color} />
              <path d={`M${LEFT} ${top}v${BAR}`} stroke={paint.quiet} fill="none" />
              <path d={`M${mean} ${top - 3}v${BAR + 6}`} stroke={paint.ink} stroke-width="2" fill="none" />
              <text x={Math.max(x(share), mean) + 6} y={top + BAR - 2} fill={paint.ink}>
                {percent(share)}
              </text>
            </g>
          );
        })}
      </g>
    </Picture>
  );
}
