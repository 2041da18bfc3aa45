// Two runs at the cursor and the difference between them, and what the model says of either, where it
// is on. A part that one of them lacks is shown too.

import type { JSX } from "preact";
import type { Column } from "../data/budget";
import type { Figure } from "../data/provenance";
import type { Part } from "../data/stages";
import type { Stop } from "../data/stops";
import { waterfallOf } from "../data/waterfall";
import { durations } from "../data/words";
import { Heads, Name, range, source, Time } from "../parts/cells";
import type { Side } from "../state/sides";

interface Props {
  readonly a: Side;
  readonly b: Side;
  readonly stops: readonly [Stop, Stop];
}

export function Change({ a, b, stops: [left, right] }: Props): JSX.Element {
  const models = [a.model && left.modelled, b.model && right.modelled];
  const named = models.flatMap((column, index) => (column ? [{ column, name: "AB"[index] ?? "" }] : []));
  const heads = ["part", "A", "B", "B − A", "bounds", ...named.map(({ name }) => `${name}, model`), "source"];
  const { measured: one } = left;
  const { measured: two } = right;
  const both = one && two && waterfallOf([a.budget.parts, b.budget.parts], [one, two]);
  const rows = both?.steps ?? a.budget.parts.map((part) => ({ part, ...either(part, one, two) }));
  return (
    <>
      <Heads texts={heads} />
      <tbody>
        {rows.map((row) => (
          <Row key={row.part.key} {...row} models={named.map(({ column }) => msOf(column, row.part))} />
        ))}
      </tbody>
      <tfoot>
        <Row
          part={null}
          one={one?.wall}
          two={two?.wall}
          change={both?.change}
          models={named.map(({ column }) => column.wall)}
        />
      </tfoot>
    </>
  );
}

const msOf = (column: Column | null, { key }: Part): Figure | undefined => column?.amounts.get(key)?.ms;

/** Where a run was not measured there is nothing to compare, and still what the other one holds. */
const either = (part: Part, one: Column | null, two: Column | null): Omit<RowProps, "part" | "models"> => ({
  one: msOf(one, part),
  two: msOf(two, part),
  change: undefined,
});

interface RowProps {
  /** Null: the whole. */
  readonly part: Part | null;
  readonly one: Figure | undefined;
  readonly two: Figure | undefined;
  readonly change: Figure | undefined;
  readonly models: readonly (Figure | undefined)[];
}

function Row({ part, one, two, change, models }: RowProps): JSX.Element | null {
  const any = change ?? one ?? two ?? models.find(Boolean);
  if (!any) return null;
  const cell = (figure: Figure | undefined, index: number): JSX.Element =>
    figure ? <Time key={index} figure={figure} /> : <td key={index}>–</td>;
  return (
    <tr>
      {part ? <Name part={part} figure={any} /> : <th scope="row">wall time</th>}
      {[one, two, change].map(cell)}
      <td>{change && range(change, durations)}</td>
      {models.map(cell)}
      <td class="note">{source(any)}</td>
    </tr>
  );
}
