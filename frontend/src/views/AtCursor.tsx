// The figures at the cursor, the same that the chart draws. With two runs: both, and what changed.

import type { JSX } from "preact";
import { nearest, type Amount, type Column } from "../data/budget";
import type { Part } from "../data/stages";
import { durations, percents, tokens } from "../data/words";
import { Name, range, Share, source, Time } from "../parts/cells";
import { link } from "../state/navigation";
import { Change } from "./Change";
import type { Side } from "./Charts";

export function AtCursor({ sides }: { sides: readonly Side[] }): JSX.Element | null {
  const [a, b] = sides.map((side) => ({
    ...side,
    column: side.budget.columns[nearest(side.budget.columns, link.value.length)],
  }));
  if (!a?.column) return null;
  const what = a.budget.phase === "decode" ? "A decode step" : "A prefill";
  return (
    <div class="at-cursor" tabIndex={0} role="region" aria-label="Figures at the cursor">
      <table>
        <caption>
          {what} at <strong>{tokens(a.column.length)}</strong> tokens
          {b?.column && b.column.length !== a.column.length && ` (B: ${tokens(b.column.length)})`}
        </caption>
        {b?.column ? (
          <Change a={a} b={b} columns={[a.column, b.column]} />
        ) : (
          <One side={a} column={a.column} />
        )}
      </table>
    </div>
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
