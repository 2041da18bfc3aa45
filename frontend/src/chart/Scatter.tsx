// Modelled against measured times: on the diagonal both are the same; the band holds what the model
// leaves open. Cells that were set aside are diamonds, those that the fit has seen small dots.

import type { JSX } from "preact";
import { axisTime } from "../data/words";
import type { Residual } from "../data/residuals";
import type { Paint } from "../state/theme";
import type { Frame } from "./geometry";
import { LogAxes } from "./LogAxes";
import { planeOf, type Plane } from "./plane";
import { Picture } from "./Picture";

const HALF = 5.5;
const ROOM = 1.6;

export interface ScatterProps {
  readonly residuals: readonly Residual[];
  readonly colors: ReadonlyMap<string, string>;
  readonly band: readonly [fastest: number, slowest: number];
  readonly frame: Frame;
  readonly paint: Paint;
  readonly summary: string;
}

export function Scatter({ residuals, colors, band, frame, paint, summary }: ScatterProps): JSX.Element {
  const values = residuals.flatMap(({ measured, modelled }) => [measured.value, modelled.value]);
  const ends = [Math.min(...values) / ROOM, Math.max(...values) * ROOM] as const;
  const plane = planeOf(ends, ends, frame);
  const axis = (title: string): { title: string; text: (ms: number) => string } => ({
    title,
    text: (ms) => axisTime(ms, ms),
  });
  const seen = residuals.filter(({ heldOut }) => !heldOut);
  const aside = residuals.filter(({ heldOut }) => heldOut);
  return (
    <Picture frame={frame} summary={summary} look="chart plain">
      <LogAxes
        frame={frame}
        plane={plane}
        across={axis("measured time of a stage")}
        up={axis("modelled time")}
        paint={paint}
      />
      <path d={bandPath(ends, band, plane)} fill={paint.quiet} fill-opacity="0.14" data-band="" />
      <path d={linePath(ends, 1, plane)} stroke={paint.ink} stroke-width="1.5" fill="none" />
      {seen.map((residual) => (
        <circle
          key={keyOf(residual)}
          cx={plane.x(residual.measured.value)}
          cy={plane.y(residual.modelled.value)}
          r="2.75"
          fill={colors.get(residual.stage) ?? paint.ink}
          data-mark="seen"
        />
      ))}
      {aside.map((residual) => (
        <path
          key={keyOf(residual)}
          d={diamond(plane.x(residual.measured.value), plane.y(residual.modelled.value))}
          fill={paint.surface}
          stroke={colors.get(residual.stage) ?? paint.ink}
          stroke-width="2"
          data-mark="aside"
        />
      ))}
      <Legend frame={frame} paint={paint} />
    </Picture>
  );
}

function Legend({ frame, paint }: { frame: Frame; paint: Paint }): JSX.Element {
  const [x, y] = [frame.left + 16, frame.top + 16];
  const texts = ["cell set aside", "cell of the fit", "90 % band"];
  return (
    <g font-size="12" fill={paint.ink} stroke="none">
      <path d={diamond(x, y)} fill={paint.surface} stroke={paint.ink} stroke-width="2" />
      <circle cx={x} cy={y + 18} r="2.75" />
      <rect x={x - 6} y={y + 31} width="12" height="10" fill={paint.quiet} fill-opacity="0.3" />
      {texts.map((text, index) => (
        <text key={text} x={x + 14} y={y + 4 + 18 * index}>
          {text}
        </text>
      ))}
    </g>
  );
}

const keyOf = ({ phase, batch, length, stage }: Residual): string => [phase, batch, length, stage].join();

const diamond = (x: number, y: number): string =>
  `M${x} ${y - HALF}L${x + HALF} ${y}L${x} ${y + HALF}L${x - HALF} ${y}Z`;

/** Where modelled = `factor` · measured, cut off at the frame. */
function ray([least, most]: readonly [number, number], factor: number): [[number, number], [number, number]] {
  const from = factor < 1 ? least / factor : least;
  const to = factor > 1 ? most / factor : most;
  return [
    [from, from * factor],
    [to, to * factor],
  ];
}

function linePath(ends: readonly [number, number], factor: number, { x, y }: Plane): string {
  const points = ray(ends, factor).map(([a, b]) => `${x(a)} ${y(b)}`);
  return `M${points.join("L")}`;
}

/** Between `measured = modelled · slowest` and `… · fastest`, with the corners of the frame. */
function bandPath(
  ends: readonly [number, number],
  [fastest, slowest]: readonly [number, number],
  { x, y }: Plane,
): string {
  const [least, most] = ends;
  const low = ray(ends, 1 / slowest);
  const high = ray(ends, 1 / fastest);
  const points = [[least, least] as const, ...low, [most, most] as const, ...high.reverse()];
  return `M${points.map(([a, b]) => `${x(a)} ${y(b)}`).join("L")}Z`;
}
