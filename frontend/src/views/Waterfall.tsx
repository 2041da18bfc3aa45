// Where the time between two runs went at the cursor, as a picture; the table beside it holds the same
// figures with their bounds.

import type { JSX } from "preact";
import { useWidth } from "../chart/useWidth";
import { WaterfallChart } from "../chart/WaterfallChart";
import { nearest, type Column } from "../data/budget";
import { waterfallOf, type Waterfall } from "../data/waterfall";
import { duration, inTokens, signed, tokens } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { link } from "../state/navigation";
import { PAINTS, theme } from "../state/theme";
import { MeasurePair } from "./MeasurePair";
import type { Side } from "../state/sides";

interface Props {
  readonly sides: readonly Side[];
  /** What to call them. */
  readonly names: readonly [string, string];
}

export function WaterfallOf({ sides: [a, b], names }: Props): JSX.Element | null {
  const [element, width] = useWidth<HTMLElement>();
  if (!a || !b) return null;
  const [left, right] = columnsOf(a, b);
  if (!left || !right) return null;
  const waterfall = waterfallOf([a.budget.parts, b.budget.parts], [left, right]);
  const of = a.budget.phase === "request" ? "prompt" : "";
  const other = left.length === right.length ? "" : ` (${names[1]}: ${tokens(right.length)})`;
  const where = `${inTokens(left.length, of)}${other}`;
  const made = [a.budget.how, "line: bounds of the change"].filter(Boolean).join(", ");
  return (
    <figure ref={element} class="between">
      <figcaption>
        From {names[0]} to {names[1]} at <strong>{where}</strong>, part by part
        <br />
        <KindTag kind={waterfall.change.kind} more={made} />
      </figcaption>
      <WaterfallChart
        waterfall={waterfall}
        names={names}
        width={width}
        paint={PAINTS[theme.value]}
        summary={summaryOf(waterfall, where, names)}
      />
      {waterfall.change.kind !== "measured" && names[0] === "before" && <MeasurePair />}
    </figure>
  );
}

/** Of both at the cursor. Two runs each at a length that was measured; a curve at the run's. */
function columnsOf(a: Side, b: Side): readonly (Column | null | undefined)[] {
  const measured = (side: Side): Column | null | undefined =>
    side.stops[nearest(side.stops, link.value.length)]?.measured;
  const one = a.isMeasured || !b.isMeasured ? measured(a) : undefined;
  const two = b.isMeasured || !a.isMeasured ? measured(b) : undefined;
  const at = (side: Side, like: Column | null | undefined): Column | undefined =>
    side.budget.columns[nearest(side.budget.columns, like?.length ?? link.value.length)];
  return [one ?? at(a, two), two ?? at(b, one)];
}

function summaryOf(
  { start, end, change, steps }: Waterfall,
  where: string,
  [from, to]: readonly [string, string],
): string {
  const parts = steps.map((step) => `${step.part.label} ${signed(step.change.value)}`);
  return `From ${from}, ${duration(start.value)}, to ${to}, ${duration(end.value)}, at ${where}: ${signed(change.value)}, of which ${parts.join(", ")}.`;
}
