// Modelled against measured times, as a picture and as a table.

import type { JSX } from "preact";
import type { Frame } from "../chart/geometry";
import { Scatter } from "../chart/Scatter";
import { useWidth } from "../chart/useWidth";
import type { Loaded } from "../data/budget";
import type { Calibration } from "../data/calibration";
import { KIND_WORD } from "../data/provenance";
import { offBy } from "../data/rates";
import { partsOf } from "../data/stages";
import { duration, tokens } from "../data/words";
import type { Residual } from "../data/residuals";
import { Heads, Time } from "../parts/cells";
import { PAINTS, theme } from "../state/theme";
import { SaveChart } from "./SaveChart";

const WIDEST = 620;

interface Props {
  readonly loaded: Loaded;
  readonly calibration: Calibration;
  readonly residuals: readonly Residual[];
}

export function ScatterFigure({ loaded, calibration, residuals }: Props): JSX.Element {
  const [element, width] = useWidth<HTMLElement>();
  const parts = partsOf([...new Set(residuals.map(({ stage }) => stage))], "stages");
  const { fastest, slowest } = calibration.hardware;
  const caption = `Modelled and ${KIND_WORD[loaded.kind]} time of each stage in each cell`;
  return (
    <>
      <figure ref={element}>
        <figcaption>{caption}</figcaption>
        <Scatter
          residuals={residuals}
          colors={new Map(parts.map(({ key, color }) => [key, color]))}
          band={[fastest, slowest]}
          frame={frameOf(Math.min(width, WIDEST))}
          paint={PAINTS[theme.value]}
          summary={summaryOf(residuals)}
        />
      </figure>
      <details class="whole">
        <summary>All stages of all cells as a table</summary>
        <div class="scroll" tabIndex={0} role="region" aria-label="All stages of all cells">
          <Table residuals={residuals} labels={new Map(parts.map(({ key, label }) => [key, label]))} />
        </div>
      </details>
      <SaveChart
        what="validation"
        loaded={loaded}
        title={`How well the model predicts ${loaded.run.model.name}`}
        caption={`${caption}; on the line both are the same`}
        figure={() => element.current}
        rows={() => rowsOf(loaded, residuals)}
      />
    </>
  );
}

function frameOf(width: number): Frame {
  const height = Math.round(Math.min(0.78 * width, 440));
  return { width, height, left: 60, right: width - 12, top: 26, bottom: height - 44 };
}

function summaryOf(residuals: readonly Residual[]): string {
  const held = residuals.filter(({ heldOut }) => heldOut);
  const within = held.filter((residual) => residual.within).length;
  const worst = [...held].sort((a, b) => Math.abs(Math.log(b.ratio)) - Math.abs(Math.log(a.ratio)))[0];
  const far = worst
    ? ` Farthest off: ${worst.stage} in ${worst.phase} at ${tokens(worst.length)} tokens, modelled ${duration(worst.modelled.value)}, measured ${duration(worst.measured.value)}.`
    : "";
  return `Modelled against measured times of ${residuals.length} stages; of ${held.length} in cells set aside ${within} lie within the band.${far}`;
}

interface TableProps {
  readonly residuals: readonly Residual[];
  readonly labels: ReadonlyMap<string, string>;
}

function Table({ residuals, labels }: TableProps): JSX.Element {
  return (
    <table>
      <caption>Time of each stage that takes a hundredth of its step or more</caption>
      <Heads texts={["cell", "stage", "measured", "modelled", "off by", "in band", "used to"]} />
      <tbody>
        {residuals.map(({ phase, batch, length, stage, measured, modelled, ratio, within, heldOut }) => (
          <tr key={[phase, batch, length, stage].join()}>
            <th scope="row">
              {`${phase}, ${tokens(length)} tokens`}
              {batch > 1 && `, batch ${batch}`}
            </th>
            <td>{labels.get(stage) ?? stage}</td>
            <Time figure={measured} />
            <Time figure={modelled} />
            <td data-kind={modelled.kind}>{offBy(ratio)}</td>
            <td>{within ? "yes" : "no"}</td>
            <td>{heldOut ? "judge" : "fit"}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function rowsOf({ run, kind }: Loaded, residuals: readonly Residual[]): (string | number)[][] {
  return [
    [
      ...["run", "model", "phase", "batch", "length", "stage", "held_out", "measured_ms", "measured_lo"],
      ...["measured_hi", "n", "kind", "modelled_ms", "modelled_lo", "modelled_hi", "modelled_kind"],
    ],
    ...residuals.map(({ phase, batch, length, stage, heldOut, measured, modelled }) => [
      ...[run.id, run.model.name, phase, batch, length, stage, Number(heldOut)],
      ...[measured.value, measured.interval.lo, measured.interval.hi, measured.n, kind],
      ...[modelled.value, modelled.interval.lo, modelled.interval.hi, modelled.kind],
    ]),
  ];
}
