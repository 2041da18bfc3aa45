// The keys that the chosen query takes most from, in numbers.

import type { JSX } from "preact";
import { colorOf } from "../chart/matrix";
import { meanFirst, nameOf, type Attention } from "../data/attention";
import { percent, tokens } from "../data/words";
import { theme } from "../state/theme";

export function TopKeys({ view, query }: { view: Attention; query: number }): JSX.Element {
  const best = view.top[query] ?? [];
  const rest = 1 - best.reduce((sum, [, weight]) => sum + weight, 0);
  return (
    <table class="top-keys">
      <caption>
        <strong>{nameOf(view, query)}</strong> takes most from
      </caption>
      <thead>
        <tr>
          <th scope="col">key</th>
          <th scope="col">tokens back</th>
          <th scope="col">weight</th>
          <th scope="col">
            <span class="hidden">as a bar</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {best.map(([place, weight]) => (
          <tr key={place}>
            <th scope="row">{nameOf(view, place)}</th>
            <td>{tokens(query - place)}</td>
            <td>{percent(weight)}</td>
            <td class="bar">
              <span style={{ width: `${100 * weight}%`, background: colorOf(8, theme.value) }} />
            </td>
          </tr>
        ))}
      </tbody>
      <tfoot>
        <tr>
          <th scope="row">all others</th>
          <td />
          <td>{percent(Math.max(0, rest))}</td>
          <td />
        </tr>
        <tr>
          <th scope="row">first token</th>
          <td />
          <td>{percent(view.first[query] ?? 0)}</td>
          <td class="note">{`mean ${percent(meanFirst(view.first))}`}</td>
        </tr>
      </tfoot>
    </table>
  );
}
