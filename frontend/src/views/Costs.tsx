// What writing all scores would take, and how it grows with the text.

import type { JSX } from "preact";
import { inBytes, type Attention, type Cost } from "../data/attention";
import { inTokens, tokens } from "../data/words";
import { Heads } from "../parts/cells";

const WHAT_IF = 4096;

export function Costs({ view }: { view: Attention }): JSX.Element | null {
  const now = view.costs.find(({ length }) => length === view.num_tokens);
  const later = view.costs.find(({ length }) => length === WHAT_IF);
  if (!now || !later) return null;
  return (
    <section class="costs" aria-labelledby="costs-title">
      <h3 id="costs-title">{`${tokens(now.length)} × ${tokens(now.length)} = ${tokens(now.scores)} scores`}</h3>
      <p>
        {`In float32 they take ${inBytes(now.head_bytes)} for this head, ${inBytes(now.layer_bytes)} for the ${view.num_heads} heads of a layer, and ${inBytes(now.model_bytes)} for all ${view.num_layers} layers. `}
        <strong>{grown(later, now)}</strong>
        {` If the text were ${inTokens(WHAT_IF)}, the heads of one layer would write ${inBytes(later.layer_bytes)}; flash attention keeps ${inBytes(later.flash_bytes)}: of each query the peak, the total and the sum of values.`}
      </p>
      <details class="whole">
        <summary>Scores by length as a table</summary>
        <div class="scroll" tabIndex={0} role="region" aria-label="Scores by length">
          <table>
            <caption class="note">
              Counted, not measured. Flash keeps its numbers for one layer at a time.
            </caption>
            <Heads
              texts={[
                "tokens",
                "scores of a head",
                "of a head",
                "of a layer’s heads",
                "of all layers",
                "flash keeps",
              ]}
            />
            <tbody>
              {view.costs.map((cost) => (
                <tr key={cost.length}>
                  <th scope="row">{tokens(cost.length)}</th>
                  <td>{tokens(cost.scores)}</td>
                  <td>{inBytes(cost.head_bytes)}</td>
                  <td>{inBytes(cost.layer_bytes)}</td>
                  <td>{inBytes(cost.model_bytes)}</td>
                  <td>{inBytes(cost.flash_bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </section>
  );
}

/** How the squares differ: "A text 205 times as long has 42,000 times the scores." */
function grown(later: Cost, now: Cost): string {
  const longer = later.length / now.length;
  const word = (times: number): string => tokens(times >= 10 ? Math.round(times) : Number(times.toFixed(1)));
  return longer <= 1 ? "" : `A text ${word(longer)} times as long has ${word(longer ** 2)} times the scores.`;
}
