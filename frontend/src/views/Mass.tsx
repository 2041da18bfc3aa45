// How far back the weight goes.

import type { JSX } from "preact";
import { MassChart } from "../chart/MassChart";
import { colorOf } from "../chart/matrix";
import { useWidth } from "../chart/useWidth";
import { distances, nameOf, type Attention } from "../data/attention";
import { percent } from "../data/words";
import { Heads } from "../parts/cells";
import { PAINTS, theme } from "../state/theme";

export function Mass({ view, query }: { view: Attention; query: number }): JSX.Element {
  const [element, width] = useWidth<HTMLElement>();
  const { mass } = view;
  const names = distances(mass.starts);
  const own = mass.rows[query] ?? [];
  const most = own.indexOf(Math.max(...own));
  return (
    <figure ref={element} class="mass-figure">
      <figcaption>
        Weight by distance, in tokens back <span class="note">line: the mean of all queries</span>
      </figcaption>
      <MassChart
        mass={mass}
        query={query}
        width={Math.min(width, 520)}
        paint={PAINTS[theme.value]}
        color={colorOf(8, theme.value)}
        summary={`Most of the weight of ${nameOf(view, query)}, ${percent(own[most] ?? 0)}, goes ${names[most] ?? 0} tokens back.`}
      />
      <details class="whole">
        <summary>Weight by distance as a table</summary>
        <table>
          <Heads texts={["tokens back", "this query", "mean"]} />
          <tbody>
            {names.map((name, index) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{percent(own[index] ?? 0)}</td>
                <td>{percent(mass.mean[index] ?? 0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </figure>
  );
}
