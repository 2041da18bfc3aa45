// The square of scores cut into tiles: computed, at work, still to come, or skipped. A number in a
// tile is its turn; what is skipped is hatched, and has none.

import type { JSX } from "preact";
import type { Flash } from "../data/attention";
import { holds, span, type Visit } from "../data/flash";
import type { Paint } from "../state/theme";
import { Picture } from "./Picture";

const LEFT = 62;
const TOP = 24;
const MOST = 80;
/** Pixels of a tile from which on its turn is written. */
const LEGIBLE = 22;

interface Props {
  readonly flash: Flash;
  readonly visits: readonly Visit[];
  readonly step: number;
  readonly width: number;
  readonly paint: Paint;
  readonly color: string;
  readonly summary: string;
  readonly onPick: (step: number) => void;
}

export function TileChart({ flash, visits, step, width, paint, color, summary, onPick }: Props): JSX.Element {
  const across = flash.tiles.filter(({ queries }) => queries[0] === 0).length;
  const down = flash.tiles.length / across;
  const cell = Math.min(MOST, (width - LEFT - 4) / across, 460 / down);
  const frame = { width: Math.max(LEFT + cell * across + 4, 200), height: TOP + cell * down + 6 };
  const now = visits[step]?.index ?? 0;
  const turns = new Map(visits.map(({ index }, turn) => [index, turn]));
  const every = Math.max(1, Math.ceil(16 / cell));
  const pick = (event: MouseEvent): void => {
    const box = (event.currentTarget as SVGSVGElement).getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - LEFT) / cell);
    const row = Math.floor((event.clientY - box.top - TOP) / cell);
    const turn = turns.get(row * across + column);
    if (column >= 0 && column < across && turn !== undefined) onPick(turn);
  };
  return (
    <Picture frame={frame} summary={summary} look="chart tiles" onClick={pick}>
      <defs>
        <pattern id="skipped" width="6" height="6" patternUnits="userSpaceOnUse">
          <path d="M0 6L6 0M-1 1L1 -1M5 7L7 5" stroke={paint.line} stroke-width="1.2" fill="none" />
        </pattern>
      </defs>
      <g font-size="11" fill={paint.quiet}>
        <text x={LEFT} y={14}>
          keys →
        </text>
        <text x={LEFT - 6} y={14} text-anchor="end">
          queries ↓
        </text>
        {flash.tiles.map((tile, index) => {
          const [x, y] = [LEFT + (index % across) * cell, TOP + Math.floor(index / across) * cell];
          const turn = turns.get(index);
          const done = turn !== undefined && turn < step;
          const at = index === now;
          return (
            <g key={index} data-tile={tile.skipped || (at ? "now" : done ? "done" : "later")}>
              <rect
                x={x + 1}
                y={y + 1}
                width={Math.max(1, cell - 2)}
                height={Math.max(1, cell - 2)}
                fill={tile.skipped ? "url(#skipped)" : at || done ? color : paint.surface}
                fill-opacity={done ? 0.3 : 1}
                stroke={at ? paint.ink : paint.line}
                stroke-width={at ? 2.5 : 1}
              />
              {cell >= LEGIBLE && turn !== undefined && (
                <text
                  x={x + cell / 2}
                  y={y + cell / 2 + 4}
                  text-anchor="middle"
                  font-weight={at ? "700" : "400"}
                  fill={paint.ink}
                  stroke={at ? paint.surface : "none"}
                  stroke-width="3"
                  paint-order="stroke"
                >
                  {turn + 1}
                </text>
              )}
              {index % across === 0 && Math.floor(index / across) % every === 0 && (
                <text
                  x={LEFT - 6}
                  y={y + cell / 2 + 4}
                  text-anchor="end"
                  fill={holds(tile, flash.row) ? paint.ink : paint.quiet}
                  font-weight={holds(tile, flash.row) ? "700" : "400"}
                >
                  {span(tile.queries)}
                </text>
              )}
            </g>
          );
        })}
      </g>
    </Picture>
  );
}
