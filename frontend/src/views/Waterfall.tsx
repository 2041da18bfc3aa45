// Where the time between two runs went at the cursor, as a picture; the table beside it holds the same
// figures with their bounds.

import type { JSX } from "preact";
import { useWidth } from "../chart/useWidth";
import { WaterfallChart } from "../chart/WaterfallChart";
import { nearest } from "../data/budget";
import { waterfallOf, type Waterfall } from "../data/waterfall";
import { duration, inTokens, signed, tokens } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { link } from "../state/navigation";
import { PAINTS, theme } from "../state/theme";
import type { Side } from "./Charts";

export function WaterfallOf({ sides: [a, b] }: { sides: readonly Side[] }): JSX.Element | null {
  const [element, width] = useWidth<HTMLElement>();
  if (!a || !b) return null;
  const [left, right] = [a, b].map(({ stops }) => stops[nearest(stops, link.value.length)]?.measured);
  if (!left || !right) return null;
  const waterfall = waterfallOf([a.budget.parts, b.budget.parts], [left, right]);
  const of = a.budget.phase === "request" ? "prompt" : "";
  const other = left.length === right.length ? "" : ` (B: ${tokens(right.length)})`;
  const where = `${inTokens(left.length, of)}${other}`;
  const made = [a.budget.how, "line: bounds of the change"].filter(Boolean).join(", ");
  return (
    <figure ref={element} class="between">
      <figcaption>
        From A to B at <strong>{where}</strong>, part by part
        <br />
        <KindTag kind={waterfall.change.kind} more={made} />
      </figcaption>
      <WaterfallChart
        waterfall={waterfall}
        width={width}
        paint={PAINTS[theme.value]}
        summary={summaryOf(waterfall, where)}
      />
      <p class="note">Left over: medians of the parts do not add up to that of the whole.</p>
    </figure>
  );
}

function summaryOf({ start, end, change, steps }: Waterfall, where: string): string {
  const parts = steps.map((step) => `${step.part.label} ${signed(step.change.value)}`);
  return `From A, ${duration(start.value)}, to B, ${duration(end.value)}, at ${where}: ${signed(change.value)}, of which ${parts.join(", ")}.`;
}
