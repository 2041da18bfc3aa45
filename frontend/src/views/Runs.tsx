// The runs there are, which of them are shown, and a way in for others.

import type { JSX } from "preact";
import type { RunEntry } from "../api/types";
import { day, short } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { go, link } from "../state/navigation";
import { entries, idA, troubles } from "../state/runs";
import { Import } from "./Import";
import { Heads } from "../parts/cells";

export function RunsView(): JSX.Element {
  return (
    <section>
      <h2>Runs</h2>
      <p class="lead">
        A run file holds every sample of one measurement with the machine, model and switches that it belongs
        to, and is named by its content. Choose which one the Budget shows, and a second one to compare it
        with.
      </p>
      <Import />
      {entries.value.length > 0 ? <List /> : <p class="empty">There are no runs yet.</p>}
    </section>
  );
}

function List(): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="All runs">
      <table class="runs">
        <Heads texts={["A", "B", "model", "device", "date", "run", "source"]} />
        <tbody>
          {entries.value.map((entry) => (
            <Row key={entry.id} entry={entry} />
          ))}
          <tr>
            <td />
            <td>
              <input
                type="radio"
                name="b"
                aria-label="Compare with none"
                checked={!link.value.b}
                onChange={() => go({ b: "" })}
              />
            </td>
            <td colSpan={5} class="note">
              compare with none
            </td>
          </tr>
        </tbody>
      </table>
    </div>
  );
}

function Row({ entry: { id, date, model, device, kind } }: { entry: RunEntry }): JSX.Element {
  const name = `${model} on ${device}, ${day(date)}, run ${short(id)}`;
  const trouble = troubles.value.get(id);
  return (
    <tr>
      <td>
        <input
          type="radio"
          name="a"
          aria-label={`Show ${name}`}
          checked={idA.value === id}
          onChange={() => go({ a: id })}
        />
      </td>
      <td>
        <input
          type="radio"
          name="b"
          aria-label={`Compare with ${name}`}
          checked={link.value.b === id}
          onChange={() => go({ b: id })}
        />
      </td>
      <th scope="row">{model}</th>
      <td>{device}</td>
      <td>{day(date)}</td>
      <td>
        <code title={id}>{short(id)}</code>
      </td>
      <td>{trouble ? `cannot be shown: ${trouble}` : <KindTag kind={kind} />}</td>
    </tr>
  );
}
