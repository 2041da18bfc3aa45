// One point of the roofline with its arithmetic: where its FLOPs and bytes come from, what it reached
// and what holds it back.

import type { JSX } from "preact";
import type { Counts, Kernels } from "../api/types";
import type { Loaded } from "../data/budget";
import { Figure } from "../data/provenance";
import { scaled, threeDigits } from "../data/rates";
import { duration, durations, inTokens, percent, percents, tokens } from "../data/words";
import { ridgeOf, roofAt, sideOf, type Reached } from "../data/reached";
import type { Cell } from "../data/runfile";
import { range, source } from "../parts/cells";
import { known } from "../state/asked";
import { calibrations } from "../state/calibration";
import { ToValidation } from "./ToValidation";

interface Props {
  readonly loaded: Loaded;
  readonly counted: Counts;
  readonly point: Reached;
  readonly label: string;
  readonly cell: Pick<Cell, "phase" | "length" | "batch">;
}

export function StageDetail({ loaded, counted, point, label, cell }: Props): JSX.Element {
  const { limits } = counted;
  const { intensity, time, rate, traffic, share } = point;
  const hasFlops = point.flops > 0;
  const side = sideOf(intensity, limits);
  return (
    <div class="scroll stage-detail" tabIndex={0} role="region" aria-label="The chosen stage">
      <table>
        <caption aria-live="polite">
          <strong>{label}</strong>
          {` in a ${cell.phase === "decode" ? "decode step" : "prefill"} at ${inTokens(cell.length)}`}
        </caption>
        <tbody>
          <Line name="time" more={`${range(time, durations)}, ${source(time)}`} kind={time.kind}>
            {duration(time.value)}
          </Line>
          <Line name="FLOPs" more={hasFlops ? "counted" : ""}>
            {hasFlops ? scaled(point.flops, "FLOP") : "not counted"}
          </Line>
          <Line name="bytes" more="counted">
            {scaled(point.bytes, "B")}
          </Line>
          {hasFlops && (
            <>
              <Line name="intensity" more={`ridge at ${threeDigits(ridgeOf(limits))}`}>
                {`${threeDigits(intensity)} FLOP/B`}
              </Line>
              <Line name="reached" more={`${source(rate)}, FLOPs counted`} kind={rate.kind}>
                {scaled(rate.value, "FLOP/s")}
              </Line>
            </>
          )}
          <Line name="moved" more={`${source(traffic)}, bytes counted`} kind={traffic.kind}>
            {scaled(traffic.value, "B/s")}
          </Line>
          <Line name="roof here" more={hasFlops ? `of ${side}` : "of bandwidth"} kind={loaded.kind}>
            {hasFlops ? scaled(roofAt(intensity, limits), "FLOP/s") : scaled(limits.bytes_s, "B/s")}
          </Line>
          <Line name="share of the roof" more={range(share, percents)} kind={share.kind}>
            {percent(share.value)}
          </Line>
        </tbody>
      </table>
      <p class="bounded">{bounds(point, counted)}</p>
      <Modelled loaded={loaded} point={point} cell={cell} />
      <Counting point={point} counted={counted} />
    </div>
  );
}

interface LineProps {
  readonly name: string;
  readonly more: string;
  readonly kind?: Loaded["kind"];
  readonly children: string;
}

function Line({ name, more, kind, children }: LineProps): JSX.Element {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td data-kind={kind}>{children}</td>
      <td class="note">{more}</td>
    </tr>
  );
}

/** Below this part of the roof neither of its sides explains the time. */
const FAR_BELOW = 0.3;

function bounds({ intensity, flops, share }: Reached, { limits }: Counts): string {
  const memory = sideOf(intensity, limits) === "bandwidth";
  const what = flops === 0 ? "Memory traffic" : memory ? "Memory bandwidth" : "Arithmetic";
  const above = share.value > 1 ? " It is faster than memory allows: a cache serves part of it." : "";
  const far =
    share.value < FAR_BELOW
      ? " It stays far below: neither memory nor arithmetic explains most of its time."
      : "";
  return `${what} is its roof.${above}${far}`;
}

/** What the calibrated model makes of the same stage, where there is one. */
function Modelled({ loaded, point, cell }: Omit<Props, "label" | "counted">): JSX.Element | null {
  const found = calibrations.of(loaded.run);
  if (!known(found)) return null;
  const { hardware, cells } = found;
  const told = cells.find(
    ({ phase, length, batch }) => phase === cell.phase && length === cell.length && batch === cell.batch,
  );
  const cost = told?.stages[point.stage];
  if (!cost) return null;
  const ms = cost.seconds * 1e3;
  const figure = Figure.modelled(ms, ms * hardware.fastest, ms * hardware.slowest, hardware.kind);
  return (
    <p class="note">
      The calibrated model says <span data-kind={figure.kind}>{duration(figure.value)}</span> (
      {range(figure, durations)}), bounded by {cost.bound}. <ToValidation />
    </p>
  );
}

/** The kernels of the stage, with the numbers that their FLOPs and bytes are made of. */
function Counting({ point, counted }: { point: Reached; counted: Counts }): JSX.Element {
  return (
    <table class="counting">
      <caption>How they are counted, all layers together; a row is one token in one layer</caption>
      {point.kernels.map((kernels) => (
        <tbody key={`${kernels.kind} ${kernels.weights}`}>
          <tr>
            <th scope="rowgroup" colSpan={2}>{`${tokens(kernels.launches)} × ${NAMES[kernels.kind]}`}</th>
          </tr>
          <tr>
            <th scope="row">FLOPs</th>
            <td>{flopsOf(kernels, counted)}</td>
          </tr>
          <tr>
            <th scope="row">bytes</th>
            <td>{bytesOf(kernels, point, counted)}</td>
          </tr>
        </tbody>
      ))}
    </table>
  );
}

const NAMES: Record<Kernels["kind"], string> = {
  matrix: "matrix product",
  attention: "attention",
  reduction: "reduction",
  elementwise: "element by element",
};

const rows = (count: number): string => `${tokens(count)} ${count === 1 ? "row" : "rows"}`;

function flopsOf({ kind, flops, weights }: Kernels, { spec }: Counts): string {
  if (flops === 0) return "not counted";
  const total = scaled(flops, "FLOP");
  if (kind === "matrix") return `2 × ${tokens(weights)} weights × ${rows(flops / (2 * weights))} = ${total}`;
  const width = Number(spec.num_heads) * Number(spec.head_dim);
  return `4 × ${tokens(width)} wide × ${tokens(flops / (4 * width))} query-key pairs = ${total}`;
}

function bytesOf(kernels: Kernels, { stage }: Reached, { choices }: Counts): string {
  const { kind, bytes, weights, count, pad_flops: padFlops } = kernels;
  const total = scaled(bytes, "B");
  if (kind === "matrix") {
    const size = Number((stage === "lm_head" && choices.head_bytes) || choices.weight_bytes);
    const read = count * weights * size;
    return `${tokens(count)} × ${tokens(weights)} weights × ${threeDigits(size)} B + ${scaled(bytes - read, "B")} in and out = ${total}`;
  }
  if (kind === "attention" && padFlops > 0) {
    const ends = (padFlops / 2) * Number(choices.activation_bytes);
    return `${scaled(bytes - ends, "B")} keys and values + ${scaled(ends, "B")} in and out = ${total}`;
  }
  return total;
}
