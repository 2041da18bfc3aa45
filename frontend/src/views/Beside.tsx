// What was measured at the cursor beside what the model says there. Beyond the measured lengths the
// model's column is the only one.

import type { JSX } from "preact";
import type { Amount, Column } from "../data/budget";
import { KIND_WORD, type Figure } from "../data/provenance";
import { eitherOf, type Part } from "../data/stages";
import type { Stop } from "../data/stops";
import { durations, percents } from "../data/words";
import { Heads, Name, range, Share, Time } from "../parts/cells";
import { link } from "../state/navigation";
import type { Side } from "../state/sides";

interface Props {
  readonly side: Side;
  readonly stop: Stop;
}

export function Beside({ side: { budget, model }, stop: { measured, modelled } }: Props): JSX.Element {
  const { y } = link.value;
  const heads = [
    "part",
    KIND_WORD[budget.kind],
    budget.columns[0]?.wall.interval.how ?? "",
    KIND_WORD[model?.kind ?? "calibrated"],
    "90 % band",
  ];
  const figure = (column: Column | null, { key }: Part): Figure | undefined =>
    of(column?.amounts.get(key), y);
  return (
    <>
      <Heads texts={heads} />
      <tbody>
        {eitherOf(budget.parts, model?.parts ?? []).map((part) => (
          <Row
            key={part.key}
            part={part}
            one={figure(measured, part)}
            two={figure(modelled, part)}
            isTime={y === "ms"}
          />
        ))}
      </tbody>
      <tfoot>
        <Row part={null} one={measured?.wall} two={modelled?.wall} isTime={true} />
      </tfoot>
    </>
  );
}

const of = (amount: Amount | undefined, y: keyof Amount): Figure | undefined => amount?.[y];

interface RowProps {
  /** Null: the whole. */
  readonly part: Part | null;
  readonly one: Figure | undefined;
  readonly two: Figure | undefined;
  readonly isTime: boolean;
}

function Row({ part, one, two, isTime }: RowProps): JSX.Element | null {
  const any = one ?? two;
  if (!any) return null;
  const Cell = isTime ? Time : Share;
  const ends = isTime ? durations : percents;
  return (
    <tr>
      {part ? <Name part={part} figure={any} /> : <th scope="row">wall time</th>}
      {[one, two].map((figure, index) =>
        figure
          ? [<Cell key={index} figure={figure} />, <td key={`${index} ends`}>{range(figure, ends)}</td>]
          : [<td key={index}>–</td>, <td key={`${index} ends`} />],
      )}
    </tr>
  );
}
