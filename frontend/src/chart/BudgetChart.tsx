// One budget as a stacked area: the picture only. What is around it (caption, cursor, table) is HTML.

import type { JSX } from "preact";
import type { Answer } from "../data/answers";
import { nearest, type Budget, type Measure, type Scope } from "../data/budget";
import { isModelled } from "../data/provenance";
import type { Paint } from "../state/theme";
import { Axes } from "./Axes";
import { Bands, Labels } from "./Bands";
import { Crossings } from "./Crossings";
import { Doubt, ModelLines, tailOf } from "./ModelLines";
import { bandsOf, type Frame, type Scales } from "./geometry";
import { Ghost } from "./Ghost";
import { Points } from "./Points";
import { Picture } from "./Picture";

const ALONG: Record<Scope, string> = {
  decode: "length in tokens",
  prefill: "prompt in tokens",
  request: "prompt in tokens",
};

interface Props {
  readonly budget: Budget;
  /** What the model says of the same; null: not shown. */
  readonly model: Budget | null;
  /** What a measurement that is going on has found so far; null: none is. */
  readonly soFar: Budget | null;
  /** What was there before; null: nothing. */
  readonly ghost: Budget | null;
  /** Where the cursor rests. */
  readonly stops: readonly { readonly length: number }[];
  readonly answer: Answer | undefined;
  readonly measure: Measure;
  readonly length: number;
  readonly frame: Frame;
  readonly scales: Scales;
  readonly paint: Paint;
  readonly summary: string;
  readonly onPick: (length: number) => void;
}

export function BudgetChart(props: Props): JSX.Element {
  const { budget, model, ghost, soFar, stops, answer, measure, frame, scales, paint } = props;
  const shared = { frame, scales, paint, kind: budget.kind, bands: bandsOf(budget, measure, scales) };
  const last = budget.columns.at(-1)?.length ?? 1;
  const tail = model ? tailOf(model, last, measure, scales) : [];
  const shown = stops[nearest(stops, props.length)]?.length ?? 1;
  const pick = (event: MouseEvent): void => {
    const svg = event.currentTarget as SVGSVGElement;
    const length = scales.x.invert(event.clientX - svg.getBoundingClientRect().left);
    props.onPick(stops[nearest(stops, length)]?.length ?? 1);
  };
  return (
    <Picture frame={frame} summary={props.summary} onClick={pick}>
      <Axes {...shared} measure={measure} along={ALONG[budget.phase]} />
      <Bands {...shared} />
      {model && tail.length > 0 && <Bands {...shared} kind={model.kind} bands={tail} />}
      {ghost && <Ghost ghost={ghost} measure={measure} scales={scales} paint={paint} />}
      {model && <ModelLines {...shared} model={model} measure={measure} />}
      <path
        d={`M${scales.x(shown)} ${frame.top}V${frame.bottom}`}
        stroke={paint.ink}
        stroke-width="1.5"
        fill="none"
      />
      {measure === "share" && answer && <Crossings {...shared} answer={answer} />}
      {isModelled(budget.kind) ? (
        <Doubt {...shared} budget={budget} measure={measure} />
      ) : (
        <Points {...shared} budget={budget} measure={measure} />
      )}
      {soFar && (
        <g data-so-far="">
          <Points {...shared} budget={soFar} measure={measure} />
        </g>
      )}
      <Labels {...shared} bands={tail.length > 0 ? tail : shared.bands} />
    </Picture>
  );
}
