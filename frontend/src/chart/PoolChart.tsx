// The blocks of the KV cache: who holds each, how full it is, and what the step does with it. A colour
// and a number say whose it is; a strip at the bottom is as long as the tokens in it.

import type { JSX } from "preact";
import type { BlockView, Scene } from "../data/scene";
import { tokens } from "../data/words";
import type { Paint } from "../state/theme";
import { Picture } from "./Picture";
import { CELL, columnsIn, GUTTER, planOf } from "./pool";

const STRIP = 7;
const COLORS = [
  "#c5573c",
  "#4f7396",
  "#5a7f68",
  "#a06a9c",
  "#8b7a45",
  "#3a8391",
  "#b8735e",
  "#767d90",
] as const;

/** Eight take turns; the number tells those apart that have the same. */
export const colorOf = (sequence: number): string => COLORS[(sequence - 1) % COLORS.length] ?? COLORS[0];

interface Props {
  readonly scene: Scene;
  /** Blocks that have been held at any time, so that rows stay where they are. */
  readonly held: ReadonlySet<number>;
  readonly width: number;
  readonly chosen: number;
  readonly paint: Paint;
  readonly summary: string;
  readonly onPick: (sequence: number) => void;
}

export function PoolChart({ scene, held, width, chosen, paint, summary, onPick }: Props): JSX.Element {
  const { lines, height } = planOf(held, scene.numBlocks, columnsIn(width));
  return (
    <Picture frame={{ width, height }} summary={summary} look="chart pool">
      <Hatch paint={paint} />
      <g font-size="12">
        {lines.map((line) =>
          line.type === "gap" ? (
            <text key={`gap ${line.from}`} x={GUTTER} y={line.y + 15} fill={paint.quiet}>
              {gapText(line.from, line.to)}
            </text>
          ) : (
            <g key={line.blocks[0]}>
              <text x={GUTTER - 8} y={line.y + 19} text-anchor="end" font-size="11" fill={paint.quiet}>
                {tokens(line.blocks[0] ?? 0)}
              </text>
              {line.blocks.map((block, column) => (
                <Cell
                  key={block}
                  block={block}
                  view={scene.blocks.get(block)}
                  size={scene.blockSize}
                  x={GUTTER + column * (CELL.width + CELL.gap)}
                  y={line.y}
                  chosen={chosen}
                  paint={paint}
                  onPick={onPick}
                />
              ))}
            </g>
          ),
        )}
      </g>
    </Picture>
  );
}

const gapText = (from: number, to: number): string =>
  from === to
    ? `block ${tokens(from)} is free`
    : `blocks ${tokens(from)} to ${tokens(to)}: ${tokens(to - from + 1)} free ones`;

export const AGAIN_ID = "pool-again";

/** What is computed again. */
export const Hatch = ({ paint }: { paint: Paint }): JSX.Element => (
  <defs>
    <pattern id={AGAIN_ID} width="4" height="4" patternUnits="userSpaceOnUse">
      <rect width="4" height="4" fill={paint.surface} />
      <path d="M0 4L4 0M-1 1L1 -1M3 5L5 3" stroke={paint.ink} stroke-width="1.4" fill="none" />
    </pattern>
  </defs>
);

interface CellProps {
  readonly block: number;
  readonly view: BlockView | undefined;
  readonly size: number;
  readonly x: number;
  readonly y: number;
  readonly chosen: number;
  readonly paint: Paint;
  readonly onPick?: (sequence: number) => void;
}

export function Cell({ block, view, size, x, y, chosen, paint, onPick }: CellProps): JSX.Element {
  const { width, height } = CELL;
  if (!view)
    return (
      <rect x={x + 0.5} y={y + 0.5} width={width - 1} height={height - 1} fill="none" stroke={paint.line} />
    );
  const { owners, change } = view;
  const owner = owners[0] ?? 0;
  const faded = chosen > 0 && !owners.includes(chosen);
  const freed = change === "freed";
  const outline = change === "taken" || change === "shared";
  return (
    <g
      data-block={block}
      data-change={change}
      data-owners={owners.join(" ")}
      opacity={faded ? 0.28 : 1}
      onClick={() => onPick?.(owner)}
    >
      <title>{titleOf(block, view, size)}</title>
      <rect x={x} y={y} width={width} height={height} fill={paint.surface} />
      {!freed &&
        owners
          .slice(0, 4)
          .map((one, k, { length }) => (
            <rect
              key={one}
              x={x + (k * width) / length}
              y={y}
              width={width / length}
              height={height}
              fill={colorOf(one)}
              fill-opacity={0.2}
            />
          ))}
      {!freed && (
        <Strip view={view} size={size} x={x} y={y + height - STRIP} color={colorOf(owner)} paint={paint} />
      )}
      <rect
        x={x + (outline ? 1 : 0.5)}
        y={y + (outline ? 1 : 0.5)}
        width={width - (outline ? 2 : 1)}
        height={height - (outline ? 2 : 1)}
        fill="none"
        stroke={outline ? paint.ink : freed ? paint.quiet : colorOf(owner)}
        stroke-width={outline ? 2 : 1}
        {...(freed && { "stroke-dasharray": "3 3" })}
      />
      <text
        x={x + width / 2}
        y={y + (freed ? 19 : 16)}
        text-anchor="middle"
        fill={freed ? paint.quiet : paint.ink}
        font-size={owners.length > 1 ? 10.5 : 12}
        {...(freed && { "text-decoration": "line-through" })}
      >
        {owners.length > 1 ? `${owner}×${owners.length}` : owner}
      </text>
      {view.read && <circle cx={x + width - 5} cy={y + 5} r={1.75} fill={paint.ink} />}
    </g>
  );
}

interface StripProps {
  readonly view: BlockView;
  readonly size: number;
  readonly x: number;
  readonly y: number;
  readonly color: string;
  readonly paint: Paint;
}

/** Kept tokens in the sequence's colour, those computed again hatched, new ones in ink. */
function Strip({ view: { kept, again, fresh }, size, x, y, color, paint }: StripProps): JSX.Element {
  const unit = CELL.width / size;
  const parts = [
    { from: 0, count: kept, fill: color },
    { from: kept, count: again, fill: `url(#${AGAIN_ID})` },
    { from: kept + again, count: fresh, fill: paint.ink },
  ];
  return (
    <>
      {parts
        .filter(({ count }) => count > 0)
        .map(({ from, count, fill }) => (
          <rect key={from} x={x + from * unit} y={y} width={count * unit} height={STRIP} fill={fill} />
        ))}
    </>
  );
}

function titleOf(
  block: number,
  { owners, change, kept, again, fresh, read }: BlockView,
  size: number,
): string {
  if (change === "freed") return `Block ${block}: given back by sequence ${owners.join(", ")}`;
  const who = owners.length > 1 ? `sequences ${owners.join(", ")}` : `sequence ${owners[0]}`;
  const words = { taken: "taken in this step", shared: "shared in this step", none: "" }[change];
  return [
    `Block ${block}: ${who}`,
    `${kept + again + fresh} of ${size} places filled`,
    again > 0 && `${again} computed again`,
    fresh > 0 && `${fresh} new`,
    words,
    read && "read by attention",
  ]
    .filter(Boolean)
    .join("; ");
}
