// Everything the picture shows, as a table.

import type { JSX } from "preact";
import { originOf, SCOPE_WORDS, type Budget, type Column } from "../data/budget";
import { duration, percent, tokens } from "../data/words";
import type { Side } from "../state/sides";

export function WholeTable({ sides }: { sides: readonly Side[] }): JSX.Element {
  return (
    <details class="whole">
      <summary>All lengths as a table</summary>
      {sides.map((side) => (
        <div
          key={side.name}
          class="scroll"
          tabIndex={0}
          role="region"
          aria-label={`Run ${side.name}, all lengths`}
        >
          <Lengths name={side.name} budget={side.budget} columns={side.budget.columns} />
          {side.model && (
            <Lengths
              name={side.name}
              budget={side.model}
              columns={side.stops.flatMap(({ modelled }) => modelled ?? [])}
            />
          )}
        </div>
      ))}
    </details>
  );
}

interface Props {
  readonly name: string;
  readonly budget: Budget;
  readonly columns: readonly Column[];
}

function Lengths({ name, budget, columns }: Props): JSX.Element {
  return (
    <table>
      <caption>{`Run ${name}, ${SCOPE_WORDS[budget.phase].replace(/^a /, "")}, batch ${budget.batch}: time and share of each part, ${originOf(budget)}`}</caption>
      <thead>
        <tr>
          <th scope="col">tokens</th>
          {budget.parts.map(({ key, label }) => (
            <th key={key} scope="col">
              {label}
            </th>
          ))}
          <th scope="col">wall time</th>
        </tr>
      </thead>
      <tbody>
        {columns.map((column) => (
          <tr key={column.length}>
            <th scope="row">{tokens(column.length)}</th>
            {budget.parts.map(({ key }) => {
              const amount = column.amounts.get(key);
              return (
                <td key={key}>
                  {amount && (
                    <>
                      {duration(amount.ms.value)} <span class="note">{percent(amount.share.value)}</span>
                    </>
                  )}
                </td>
              );
            })}
            <td>{duration(column.wall.value)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
