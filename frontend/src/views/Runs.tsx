// The runs there are, which of them are shown, and a way in for others.

import type { JSX } from "preact";
import type { RunEntry } from "../api/types";
import { minute, short } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { go, link } from "../state/navigation";
import { entries, idA, troubles } from "../state/runs";
import { capabilities } from "../state/server";
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
        <Heads texts={["A", "B", "model", "device", "measured at", "phases", "switches", "run", "source"]} />
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
            <td colSpan={7} class="note">
              compare with none
            </td>
          </tr>
        </tbody>
      </table>
    </div>
  );
}

/** How its switches differ from those of the running engine; as they were, where none runs. */
function switchesOf({ switches }: RunEntry): string {
  const now = new Map(capabilities.value?.switches.map(({ key, current }) => [key, current]));
  const others = Object.entries(switches).filter(([key, value]) => now.get(key) !== String(value));
  return others.map(([key, value]) => `${key} ${String(value)}`).join(", ") || "as they are now";
}

function Row({ entry }: { entry: RunEntry }): JSX.Element {
  const { id, date, model, device, kind, phases } = entry;
  const name = `${model} on ${device}, ${minute(date)}, run ${short(id)}`;
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
      <td>{minute(date)}</td>
      <td>{phases.join(", ")}</td>
      <td>{switchesOf(entry)}</td>
      <td>
        <code title={id}>{short(id)}</code>
      </td>
      <td>{trouble ? `cannot be shown: ${trouble}` : <KindTag kind={kind} />}</td>
    </tr>
  );
}
