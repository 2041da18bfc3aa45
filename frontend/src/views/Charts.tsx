// One chart, or two with the same axes, over one cursor.

import type { JSX } from "preact";
import { BudgetChart } from "../chart/BudgetChart";
import { frameOf, scalesOf } from "../chart/geometry";
import { useWidth } from "../chart/useWidth";
import { budgetFrom, originOf, SCOPE_WORDS, type Budget } from "../data/budget";
import type { Stop } from "../data/stops";
import { day } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { forget } from "../state/before";
import { cellsSoFar } from "../state/measuring";
import { go, link } from "../state/navigation";
import { followsEngine } from "../state/setting";
import { deviceOf } from "../state/runs";
import { PAINTS, theme } from "../state/theme";
import { Cursor } from "./Cursor";
import type { Side } from "../state/sides";
import { spoken } from "./spoken";

interface Props {
  readonly sides: readonly Side[];
  /** What was drawn before: its outline stays behind the picture. */
  readonly ghost: Side | null;
}

export function Charts({ sides, ghost }: Props): JSX.Element {
  const [element, width] = useWidth<HTMLElement>();
  const frame = frameOf(width);
  const { y: measure, length } = link.value;
  const scales = scalesOf(
    [...sides, ...(ghost ? [ghost] : [])].flatMap(({ budget, model }) =>
      model ? [budget, model] : [budget],
    ),
    measure,
    frame,
  );
  return (
    <div class={sides.length > 1 ? "charts two" : "charts"}>
      {sides.map((side, index) => (
        <figure key={side.name} ref={index === 0 ? element : null}>
          <figcaption>
            {sides.length > 1 && <Which side={side} />}
            <KindTag kind={side.budget.kind} more={blocks(side.budget)} />
            {sides.some(({ model }) => model) && (
              <div>
                {side.model ? (
                  <KindTag kind={side.model.kind} more="lines, and all that is hatched" />
                ) : (
                  "no model"
                )}
              </div>
            )}
            {ghost && <Behind ghost={ghost} />}
          </figcaption>
          <BudgetChart
            budget={side.budget}
            model={side.model}
            ghost={ghost?.budget ?? null}
            soFar={index === 0 ? soFar() : null}
            stops={side.stops}
            answer={side.answer}
            measure={measure}
            length={length}
            frame={frame}
            scales={scales}
            paint={PAINTS[theme.value]}
            summary={summary(side)}
            onPick={(picked) => go({ length: picked })}
          />
          {index === 0 && <Cursor sides={sides} frame={frame} />}
        </figure>
      ))}
    </div>
  );
}

/** The points of a measurement of this very setting, as they come. */
function soFar(): Budget | null {
  const { phase, batch, detail } = link.value;
  if (phase === "request" || !followsEngine.value) return null;
  const cells = cellsSoFar.value.filter((cell) => cell.phase === phase && cell.batch === batch);
  return budgetFrom(cells, { phase, batch, kind: "measured", how: "" }, detail);
}

/** Whose outline it is, and a way to be rid of it. */
function Behind({ ghost: { budget } }: { ghost: Side }): JSX.Element {
  return (
    <div class="behind">
      Dashed outline: before the last choice, {originOf(budget)}{" "}
      <button type="button" class="quiet" onClick={forget}>
        Hide it
      </button>
    </div>
  );
}

function Which({ side: { name, loaded } }: { side: Side }): JSX.Element {
  const { model, environment } = loaded.run;
  return (
    <div>
      <strong>{name}</strong> {`${model.name} · ${deviceOf(loaded.run)} · ${day(environment.date)}`}
    </div>
  );
}

function blocks({ columns, how }: Budget): string {
  const [column] = columns;
  if (!column) return "";
  const { n, interval } = column.wall;
  if (n === 0) return how;
  const made = how && `${how}, `;
  if (n === 1) return `${made}one block, so that nothing tells how far it can be trusted`;
  return `${made}middle half of ${n} blocks, bar: ${interval.how === "95 %" ? "95 % interval" : "least to most"}`;
}

/** What the picture shows, in one sentence; the table holds the rest. */
function summary({ budget, model, stops, answer }: Side): string {
  const { columns } = budget;
  const first = columns[0];
  const last = columns.at(-1);
  if (!first || !last) return "No lengths.";
  const ends = [first, last].map((column) => spoken(column, budget)).join("; ");
  return `Where the time of ${SCOPE_WORDS[budget.phase]} goes, ${originOf(budget)}. ${ends}. ${answer?.sentence ?? ""}${model ? over(model, stops) : ""}`;
}

function over(model: Budget, stops: readonly Stop[]): string {
  const end = stops.at(-1)?.modelled;
  return ` Over it, ${originOf(model)}${end ? `, up to ${spoken(end, model)}` : ""}.`;
}
