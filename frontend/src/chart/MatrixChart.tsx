// One head's weights: a row is a query, a column a key. Each token is written once, on the diagonal,
// where its row ends and its column begins.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { cellsOf, shown, type Attention, type Cells } from "../data/attention";
import { tokens } from "../data/words";
import type { Paint, Theme } from "../state/theme";
import { colorOf, LEVELS, pathsOf, unseenPath, type Place } from "./matrix";
import { Picture } from "./Picture";

/** Pixels of a cell from which on tokens are written. */
const LEGIBLE = 11;
const MOST_CELL = 30;
const LEFT = 40;
const KEY = 34;
const LETTERS = 14;
/** Pixels for a number beside a row, and every how many rows there can be one. */
const TICK = 18;
const STEPS = [1, 2, 4, 5, 10, 20, 25, 50];
const LEGEND = [0.01, 0.1, 0.25, 0.5, 1];

interface Props {
  readonly view: Attention;
  readonly cells: Cells;
  readonly query: number;
  readonly width: number;
  readonly paint: Paint;
  readonly theme: Theme;
  readonly summary: string;
  readonly onPoint: (query: number | null) => void;
  readonly onPick: (query: number) => void;
}

interface Frame extends Place {
  readonly count: number;
  readonly size: number;
  readonly width: number;
  readonly height: number;
}

function frameOf({ matrix, tokens: all }: Attention, width: number): Frame {
  const count = matrix.max.length;
  const longest = Math.min(LETTERS, Math.max(...all.map(({ text }) => shown(text).length)));
  const room = width - LEFT - 8;
  const named = Math.min(MOST_CELL, (room - longest * 7) / count);
  const cell = named >= LEGIBLE && matrix.edge === 1 ? named : Math.min(MOST_CELL, room / count);
  const size = cell * count;
  return { left: LEFT, top: 4, cell, count, size, width, height: size + 8 + KEY };
}

export function MatrixChart(props: Props): JSX.Element {
  const { view, query, width, paint } = props;
  const frame = useMemo(() => frameOf(view, width), [view, width]);
  const row = Math.floor(query / view.matrix.edge);
  const at = (event: PointerEvent): number | null => {
    const svg = event.currentTarget as SVGSVGElement;
    const y = Math.floor((event.clientY - svg.getBoundingClientRect().top - frame.top) / frame.cell);
    return y >= 0 && y < frame.count ? Math.min((y + 1) * view.matrix.edge, view.num_tokens) - 1 : null;
  };
  return (
    <div
      class="pointed"
      onPointerMove={(event) => props.onPoint(at(pointed(event)))}
      onPointerLeave={() => props.onPoint(null)}
    >
      <Picture
        frame={frame}
        summary={props.summary}
        look="chart matrix"
        onClick={(event) => {
          const picked = at(event as PointerEvent);
          if (picked !== null) props.onPick(picked);
        }}
      >
        <Weights {...props} frame={frame} />
        <rect
          x={frame.left - 1}
          y={frame.top + row * frame.cell - 0.5}
          width={(row + 1) * frame.cell + 2}
          height={Math.max(frame.cell + 1, 3)}
          fill="none"
          stroke={paint.ink}
          stroke-width="1.5"
        />
        <Names view={view} query={query} frame={frame} paint={paint} />
        <Legend frame={frame} paint={paint} theme={props.theme} />
      </Picture>
    </div>
  );
}

/** The same event, as if the picture itself had been listened to. */
function pointed(event: PointerEvent): PointerEvent {
  const svg = (event.currentTarget as HTMLElement).querySelector("svg");
  return { clientX: event.clientX, clientY: event.clientY, currentTarget: svg } as unknown as PointerEvent;
}

/** All that stays when another query is chosen. */
function Weights({ view, cells, theme, paint, frame }: Props & { frame: Frame }): JSX.Element {
  return useMemo(() => {
    const { matrix, window } = view;
    return (
      <g>
        <defs>
          <pattern id="unseen" width="6" height="6" patternUnits="userSpaceOnUse">
            <path d="M0 6L6 0M-1 1L1 -1M5 7L7 5" stroke={paint.line} stroke-width="1.2" fill="none" />
          </pattern>
        </defs>
        <path
          data-part="unseen"
          d={unseenPath(frame.count, matrix.edge, window, frame)}
          fill="url(#unseen)"
        />
        {pathsOf(cellsOf(matrix, cells), frame).map(({ level, path }) => (
          <path key={level} data-part={`level-${level}`} d={path} fill={colorOf(level, theme)} />
        ))}
        <rect
          x={frame.left}
          y={frame.top}
          width={frame.size}
          height={frame.size}
          fill="none"
          stroke={paint.line}
        />
      </g>
    );
  }, [view, cells, theme, paint, frame]);
}

function Names({
  view,
  query,
  frame,
  paint,
}: Pick<Props, "view" | "query" | "paint"> & { frame: Frame }): JSX.Element {
  const { edge } = view.matrix;
  const legible = frame.cell >= LEGIBLE && edge === 1;
  const size = Math.min(12, frame.cell - 1);
  const every = STEPS.find((step) => step * frame.cell >= TICK) ?? 64;
  const rows = Array.from({ length: frame.count }, (_, row) => row);
  const y = (row: number): number => frame.top + (row + 0.5) * frame.cell + 4;
  return (
    <g font-size="11" fill={paint.quiet}>
      {rows
        .filter((row) => (row === 0 ? true : (row + 1) % every === 0))
        .map((row) => (
          <text key={row} x={frame.left - 6} y={y(row)} text-anchor="end">
            {tokens(row === 0 ? 1 : Math.min((row + 1) * edge, view.num_tokens))}
          </text>
        ))}
      {legible &&
        rows.map((row) => (
          <text
            key={`name-${row}`}
            x={frame.left + (row + 1) * frame.cell + 5}
            y={frame.top + (row + 0.5) * frame.cell + size / 3}
            font-size={size}
            font-weight={row === query ? "700" : "400"}
            fill={paint.ink}
            stroke={paint.surface}
            stroke-width="3"
            paint-order="stroke"
          >
            {cut(shown(view.tokens[row]?.text ?? ""))}
          </text>
        ))}
    </g>
  );
}

const cut = (text: string): string => (text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}…` : text);

function Legend({ frame, paint, theme }: Pick<Props, "paint" | "theme"> & { frame: Frame }): JSX.Element {
  const y = frame.height - 18;
  const narrow = frame.width < 440;
  const weights = narrow ? LEGEND.filter((_, index) => index % 2 === 0) : LEGEND;
  const behind = frame.left + 46 * (weights.length + 1);
  return (
    <g font-size="11" fill={paint.quiet}>
      <text x={frame.left} y={y + 10}>
        weight
      </text>
      {weights.map((weight, index) => (
        <g key={weight}>
          <rect
            x={frame.left + 44 + index * 46}
            y={y}
            width="13"
            height="13"
            fill={colorOf(Math.max(1, Math.round(LEVELS * Math.sqrt(weight))), theme)}
          />
          <text x={frame.left + 61 + index * 46} y={y + 10}>
            {weight}
          </text>
        </g>
      ))}
      <rect x={behind} y={y} width="13" height="13" fill="url(#unseen)" stroke={paint.line} />
      <text x={behind + 17} y={y + 10}>
        not seen
      </text>
    </g>
  );
}
