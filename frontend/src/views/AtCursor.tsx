// The figures at the cursor, the same that the chart draws. With two runs: both, and what changed.

import type { JSX } from "preact";
import { nearest, SCOPE_WORDS, type Amount, type Budget, type Column } from "../data/budget";
import type { Part } from "../data/stages";
import type { Stop } from "../data/stops";
import { durations, inTokens, percents, tokens } from "../data/words";
import { Name, range, Share, source, Time } from "../parts/cells";
import { link } from "../state/navigation";
import { Beside } from "./Beside";
import { Change } from "./Change";
import type { Side } from "../state/sides";

export function AtCursor({ sides }: { sides: readonly Side[] }): JSX.Element | null {
  const [a, b] = sides.map((side) => ({
    ...side,
    stop: side.stops[nearest(side.stops, link.value.length)],
  }));
  if (!a?.stop) return null;
  return (
    <div class="at-cursor" tabIndex={0} role="region" aria-label="Figures at the cursor">
      <table>
        <caption>
          <Subject budget={a.budget} length={a.stop.length} />
          {a.model && !b && (link.value.y === "ms" ? ": time" : ": share of the time")}
          {a.model && !b && a.stop.measured && `, n ${a.stop.measured.wall.n}`}
          {b?.stop && b.stop.length !== a.stop.length && ` (B: ${tokens(b.stop.length)})`}
        </caption>
        <Figures a={a} b={b} />
      </table>
    </div>
  );
}

type AtStop = Side & { readonly stop: Stop | undefined };

function Figures({ a, b }: { a: AtStop; b: AtStop | undefined }): JSX.Element | null {
  if (!a.stop) return null;
  if (b?.stop) return <Change a={a} b={b} stops={[a.stop, b.stop]} />;
  if (a.model || !a.stop.measured) return <Beside side={a} stop={a.stop} />;
  return <One side={a} column={a.stop.measured} />;
}

/** "A decode step at 1,024 tokens", and how its figures came about if they were not just measured. */
function Subject({ budget, length }: { budget: Budget; length: number }): JSX.Element {
  const { output } = link.value;
  const what = SCOPE_WORDS[budget.phase].replace(/^a/, "A");
  if (budget.phase !== "request")
    return (
      <>
        {what} at <strong>{tokens(length)}</strong> {length === 1 ? "token" : "tokens"}
      </>
    );
  return (
    <>
      {what}: <strong>{tokens(length)}</strong> prompt {length === 1 ? "token" : "tokens"},{" "}
      {inTokens(output, "output")} ({budget.how})
    </>
  );
}

function One({ side, column }: { side: Side; column: Column }): JSX.Element {
  const { y } = link.value;
  return (
    <>
      <thead>
        <tr>
          <th scope="col">part</th>
          <th scope="col">time</th>
          <th scope="col">share</th>
          <th scope="col">
            {y === "share" ? "share, " : "time, "}
            {column.wall.interval.how}
          </th>
          <th scope="col">source</th>
        </tr>
      </thead>
      <tbody>
        {side.budget.parts.map((part) => {
          const amount = column.amounts.get(part.key);
          return amount && <Row key={part.key} part={part} amount={amount} />;
        })}
      </tbody>
      <tfoot>
        <tr>
          <th scope="row">wall time</th>
          <Time figure={column.wall} />
          <td />
          <td>{y === "ms" && range(column.wall, durations)}</td>
          <td class="note">{source(column.wall)}</td>
        </tr>
      </tfoot>
    </>
  );
}

function Row({ part, amount }: { part: Part; amount: Amount }): JSX.Element {
  const { y } = link.value;
  return (
    <tr>
      <Name part={part} figure={amount.share} />
      <Time figure={amount.ms} />
      <Share figure={amount.share} />
      <td>{range(amount[y], y === "share" ? percents : durations)}</td>
      <td class="note">{source(amount[y])}</td>
    </tr>
  );
}
