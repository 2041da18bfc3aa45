// Two runs at the cursor and the difference between them. A part that one of them lacks is shown too.

import type { JSX } from "preact";
import type { Column } from "../data/budget";
import { Figure } from "../data/provenance";
import type { Part } from "../data/stages";
import { durations } from "../data/words";
import { Name, range, source, Time } from "../parts/cells";
import type { Side } from "./Charts";

const HEADS = ["part", "A", "B", "B − A", "bounds", "source"];

interface Props {
  readonly a: Side;
  readonly b: Side;
  readonly columns: readonly [Column, Column];
}

export function Change({ a, b, columns: [left, right] }: Props): JSX.Element {
  return (
    <>
      <thead>
        <tr>
          {HEADS.map((text) => (
            <th key={text} scope="col">
              {text}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {eitherOf(a.budget.parts, b.budget.parts).map((part) => (
          <Row key={part.key} part={part} one={msOf(left, part)} two={msOf(right, part)} />
        ))}
      </tbody>
      <tfoot>
        <Row part={null} one={left.wall} two={right.wall} />
      </tfoot>
    </>
  );
}

const msOf = (column: Column, { key }: Part): Figure | undefined => column.amounts.get(key)?.ms;

/** Those of the first, and before its last, which is `other`, those that only the second has. */
function eitherOf(first: readonly Part[], second: readonly Part[]): readonly Part[] {
  const added = second.filter(({ key }) => !first.some((part) => part.key === key));
  return [...first.slice(0, -1), ...added, ...first.slice(-1)];
}

interface RowProps {
  /** Null: the whole. */
  readonly part: Part | null;
  readonly one: Figure | undefined;
  readonly two: Figure | undefined;
}

function Row({ part, one, two }: RowProps): JSX.Element | null {
  const change = one && two && Figure.difference(two, one);
  const any = change ?? one ?? two;
  if (!any) return null;
  const cells = [one, two, change];
  return (
    <tr>
      {part ? <Name part={part} figure={any} /> : <th scope="row">wall time</th>}
      {cells.map((figure, index) => (figure ? <Time key={index} figure={figure} /> : <td key={index}>–</td>))}
      <td>{change && range(change, durations)}</td>
      <td class="note">{source(any)}</td>
    </tr>
  );
}
