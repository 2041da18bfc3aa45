// The model over what was measured: the borders of its stages as lines in ink, attention's with its
// 90 % band; behind the last measured length nothing but the model, hatched as a model is.

import type { JSX } from "preact";
import { area } from "d3-shape";
import type { Budget, Column, Measure } from "../data/budget";
import type { Paint } from "../state/theme";
import { fillOf, Hatches, LOOKS } from "./fill";
import { bandsOf, type Band, type Frame, type Scales } from "./geometry";

interface Props {
  readonly model: Budget;
  readonly measure: Measure;
  readonly frame: Frame;
  readonly scales: Scales;
  readonly paint: Paint;
}

/** The model's bands from the last measured length on; none if it ends there. */
export function tailOf(model: Budget, last: number, measure: Measure, scales: Scales): Band[] {
  const columns = model.columns.filter(({ length }) => length >= last);
  return columns.length < 2 ? [] : bandsOf({ ...model, columns }, measure, scales);
}

export function ModelLines({ model, measure, frame, scales, paint }: Props): JSX.Element {
  const { dash } = LOOKS[model.kind];
  const bands = bandsOf(model, measure, scales);
  return (
    <g data-model={model.kind}>
      <Hatches kind={model.kind} colors={[paint.surface]} />
      <path
        d={doubt(model.columns, measure, frame, scales)}
        fill={fillOf(model.kind, paint.surface)}
        stroke={paint.ink}
        stroke-width="0.75"
        data-doubt="attention"
      />
      {bands.slice(0, -1).map(({ part: { key }, edge }) => (
        <g key={key} fill="none" data-border={key}>
          {key === "attention" && <path d={edge} stroke={paint.surface} stroke-width="4.5" />}
          <path
            d={edge}
            stroke={paint.ink}
            stroke-width={key === "attention" ? "2" : "0.9"}
            stroke-dasharray={dash}
          />
        </g>
      ))}
    </g>
  );
}

/** How high attention's border may lie in a picture that is all model. */
export function Doubt({
  budget,
  measure,
  frame,
  scales,
  paint,
}: Omit<Props, "model"> & { budget: Budget }): JSX.Element {
  return (
    <path
      d={doubt(budget.columns, measure, frame, scales)}
      fill={paint.surface}
      fill-opacity="0.45"
      stroke={paint.ink}
      stroke-width="0.75"
      data-doubt="attention"
    />
  );
}

/** How high attention's border may lie. */
function doubt(columns: readonly Column[], measure: Measure, frame: Frame, { x, y }: Scales): string {
  const at = (value: number): number => Math.max(y(value), frame.top);
  const intervals = columns.flatMap(({ length, amounts }) => {
    const figure = amounts.get("attention")?.[measure];
    return figure ? [{ length, ...figure.interval }] : [];
  });
  const shape = area<(typeof intervals)[number]>(
    ({ length }) => x(length),
    ({ lo }) => at(lo),
    ({ hi }) => at(hi),
  );
  return shape(intervals) ?? "";
}
