// One point of the roofline with its arithmetic: where its FLOPs and bytes come from, what it reached
// and what holds it back.

import type { JSX } from "preact";
import type { Loaded } from "../data/budget";
import { Figure } from "../data/provenance";
import { scaled, threeDigits } from "../data/rates";
import { duration, durations, inTokens, percent, percents, tokens } from "../data/words";
import { ridgeOf, roofAt, sideOf, type Kernels, type Reached } from "../model/reached";
import { boundOf, budget } from "../model/roofline";
import type { Setup } from "../model/setup";
import type { Workload } from "../model/work";
import { range, source } from "../parts/cells";
import { calibrationOf, isCalibrated } from "../state/calibration";
import { ToValidation } from "./ToValidation";

interface Props {
  readonly loaded: Loaded;
  readonly setup: Setup;
  readonly point: Reached;
  readonly label: string;
  readonly workload: Workload;
}

export function StageDetail({ loaded, setup, point, label, workload }: Props): JSX.Element {
  const { limits } = setup;
  const { intensity, time, rate, traffic, share } = point;
  const counted = point.flops > 0;
  const side = sideOf(intensity, limits);
  return (
    <div class="scroll stage-detail" tabIndex={0} role="region" aria-label="The chosen stage">
      <table>
        <caption aria-live="polite">
          <strong>{label}</strong>
          {` in a ${workload.phase === "decode" ? "decode step" : "prefill"} at ${inTokens(workload.length)}`}
        </caption>
        <tbody>
          <Line name="time" more={`${range(time, durations)}, ${source(time)}`} kind={time.kind}>
            {duration(time.value)}
          </Line>
          <Line name="FLOPs" more={counted ? "counted" : ""}>
            {counted ? scaled(point.flops, "FLOP") : "not counted"}
          </Line>
          <Line name="bytes" more="counted">
            {scaled(point.bytes, "B")}
          </Line>
          {counted && (
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
          <Line name="roof here" more={counted ? `of ${side}` : "of bandwidth"} kind={loaded.kind}>
            {counted ? scaled(roofAt(intensity, limits), "FLOP/s") : scaled(limits.bytes_s, "B/s")}
          </Line>
          <Line name="share of the roof" more={range(share, percents)} kind={share.kind}>
            {percent(share.value)}
          </Line>
        </tbody>
      </table>
      <p class="bounded">{bounds(point, setup)}</p>
      <Modelled loaded={loaded} setup={setup} point={point} workload={workload} />
      <Counting point={point} setup={setup} />
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

function bounds({ intensity, flops, share }: Reached, { limits }: Setup): string {
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
function Modelled({ loaded, setup, point, workload }: Omit<Props, "label">): JSX.Element | null {
  const found = calibrationOf(loaded.run);
  if (!isCalibrated(found)) return null;
  const { hardware, choices } = found;
  const cost = budget(setup.spec, workload, choices, hardware).stages[point.stage];
  const ms = cost.seconds * 1e3;
  const figure = Figure.modelled(ms, ms * hardware.fastest, ms * hardware.slowest, hardware.kind);
  return (
    <p class="note">
      The calibrated model says <span data-kind={figure.kind}>{duration(figure.value)}</span> (
      {range(figure, durations)}), bounded by {boundOf(cost)}. <ToValidation />
    </p>
  );
}

/** The kernels of the stage, with the numbers that their FLOPs and bytes are made of. */
function Counting({ point, setup }: { point: Reached; setup: Setup }): JSX.Element {
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
            <td>{flopsOf(kernels, setup)}</td>
          </tr>
          <tr>
            <th scope="row">bytes</th>
            <td>{bytesOf(kernels, point, setup)}</td>
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

function flopsOf({ kind, flops, weights }: Kernels, { spec }: Setup): string {
  if (flops === 0) return "not counted";
  const total = scaled(flops, "FLOP");
  if (kind === "matrix") return `2 × ${tokens(weights)} weights × ${rows(flops / (2 * weights))} = ${total}`;
  const width = spec.num_heads * spec.head_dim;
  return `4 × ${tokens(width)} wide × ${tokens(flops / (4 * width))} query-key pairs = ${total}`;
}

function bytesOf(kernels: Kernels, { stage }: Reached, { choices }: Setup): string {
  const { kind, bytes, weights, count, padFlops } = kernels;
  const total = scaled(bytes, "B");
  if (kind === "matrix") {
    const size = (stage === "lm_head" && choices.head_bytes) || choices.weight_bytes;
    const read = count * weights * size;
    return `${tokens(count)} × ${tokens(weights)} weights × ${threeDigits(size)} B + ${scaled(bytes - read, "B")} in and out = ${total}`;
  }
  if (kind === "attention" && padFlops > 0) {
    const ends = (padFlops / 2) * choices.activation_bytes;
    return `${scaled(bytes - ends, "B")} keys and values + ${scaled(ends, "B")} in and out = ${total}`;
  }
  return total;
}
