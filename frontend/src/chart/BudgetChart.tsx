// One budget as a stacked area: the picture only. What is around it (caption, cursor, table) is HTML.

import type { JSX } from "preact";
import type { Answer } from "../data/answers";
import { nearest, type Budget, type Measure } from "../data/budget";
import type { Paint } from "../state/theme";
import { Axes } from "./Axes";
import { Bands, Labels } from "./Bands";
import { Crossings } from "./Crossings";
import { bandsOf, type Frame, type Scales } from "./geometry";
import { Points } from "./Points";

interface Props {
  readonly budget: Budget;
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
  const { budget, answer, measure, frame, scales, paint } = props;
  const shared = { frame, scales, paint, kind: budget.kind, bands: bandsOf(budget, measure, scales) };
  const shown = budget.columns[nearest(budget.columns, props.length)]?.length ?? 1;
  const pick = (event: MouseEvent): void => {
    const svg = event.currentTarget as SVGSVGElement;
    const length = scales.x.invert(event.clientX - svg.getBoundingClientRect().left);
    props.onPick(budget.columns[nearest(budget.columns, length)]?.length ?? 1);
  };
  return (
    <svg
      xmlns="http://www.w3.org/2000/svg"
      class="chart"
      role="img"
      aria-label={props.summary}
      width={frame.width}
      height={frame.height}
      viewBox={`0 0 ${frame.width} ${frame.height}`}
      font-family="system-ui, sans-serif"
      onClick={pick}
    >
      <Axes {...shared} measure={measure} />
      <Bands {...shared} />
      <path
        d={`M${scales.x(shown)} ${frame.top}V${frame.bottom}`}
        stroke={paint.ink}
        stroke-width="1.5"
        fill="none"
      />
      {measure === "share" && answer && <Crossings {...shared} answer={answer} />}
      <Points {...shared} budget={budget} measure={measure} />
      <Labels {...shared} />
    </svg>
  );
}
