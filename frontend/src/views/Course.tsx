// What the chosen query keeps, behind each of its tiles: m, l, the correction, and the partial output.

import type { JSX } from "preact";
import type { Flash, FlashTile } from "../data/attention";
import { figure, fixed, holds, span } from "../data/flash";
import { tokens } from "../data/words";
import { Heads } from "../parts/cells";

/** Numbers of the partial output that stand in the table; the whole is below it. */
const SOME = 3;

export function Course({ flash, tile }: { flash: Flash; tile: FlashTile }): JSX.Element {
  const { course, row } = flash;
  const mine = holds(tile, row);
  const visited = course.filter(({ skipped }) => !skipped);
  const at = mine ? visited.findIndex(({ keys }) => keys[0] === tile.keys[0]) : -1;
  const now = visited[at] ?? visited.at(-1);
  const who = `query ${tokens(row + 1)}`;
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label={`Course of ${who}`}>
        <table class="course">
          <caption class="note">
            {mine
              ? `What ${who} keeps, tile after tile`
              : `All tiles of ${who}; the one at hand is of other queries`}
          </caption>
          <Heads texts={["keys", "m", "l", "rescale", "partial output"]} />
          <tbody>
            {visited.map(({ keys, peak, total, rescale, partial }, index) => (
              <tr
                key={keys[0]}
                class={mine && index > at ? "later" : ""}
                aria-current={index === at ? "step" : undefined}
              >
                <th scope="row">
                  {index === at && <span aria-hidden="true">▸ </span>}
                  {span(keys)}
                </th>
                <td>{peak === null ? "–" : figure(peak)}</td>
                <td>{figure(total)}</td>
                <td>{index === 0 ? "–" : figure(rescale)}</td>
                <td class="partial">{`${partial
                  .slice(0, SOME)
                  .map((n) => fixed(n))
                  .join("  ")} …`}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {now && (
        <details class="whole">
          <summary>{`All ${now.partial.length} numbers of the partial output`}</summary>
          <p class="numbers">{now.partial.map((n) => fixed(n, 4)).join("  ")}</p>
        </details>
      )}
      <Lines tile={tile} />
    </>
  );
}

function Lines({ tile }: { tile: FlashTile }): JSX.Element {
  const { queries, peak = [], total = [], rescale = [], norm = [] } = tile;
  return (
    <details class="whole">
      <summary>{`All queries of this tile, ${span(queries)}`}</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label="Queries of this tile">
        <table>
          <Heads texts={["query", "m", "l", "rescale", "norm of the partial output"]} />
          <tbody>
            {peak.map((value, line) => (
              <tr key={line}>
                <th scope="row">{tokens(queries[0] + line + 1)}</th>
                <td>{value === null ? "–" : figure(value)}</td>
                <td>{figure(total[line] ?? 0)}</td>
                <td>{figure(rescale[line] ?? 0)}</td>
                <td>{figure(norm[line] ?? 0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
