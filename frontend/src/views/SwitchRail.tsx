// The switches beside a view, so that their effect can be watched there. Where a talk or a budget
// leaves no room beside it they are folded away above it; without a server there are none.

import type { ComponentChildren, JSX } from "preact";
import { SwitchControl } from "../parts/SwitchControl";
import { SwitchNews } from "../parts/SwitchNews";
import { useMedia } from "../parts/useMedia";
import type { View } from "../state/link";
import { capabilities } from "../state/server";

/** Windows in which the page grows by the rail, so that charts keep their width: as in the stylesheet. */
const WIDE = "(width >= 100rem)";
/** A talk is narrow, and leaves room in most windows. */
const ROOM: Partial<Record<View, string>> = { chat: "(width >= 62rem)" };
const ABOVE: readonly View[] = ["budget", "chat"];

export function WithSwitches({ view, children }: { view: View; children: ComponentChildren }): JSX.Element {
  const room = useMedia(ROOM[view] ?? WIDE);
  const wanted = capabilities.value !== null && view !== "switches"; // which shows them itself
  const beside = wanted && room;
  return (
    <div class={beside ? "railed" : ""}>
      {beside ? <Beside /> : wanted && ABOVE.includes(view) && <Above />}
      <div>{children}</div>
    </div>
  );
}

function Beside(): JSX.Element {
  return (
    <section class="rail" aria-label="Switches">
      <h2>Switches</h2>
      <Controls />
    </section>
  );
}

function Above(): JSX.Element {
  return (
    <details class="rail">
      <summary>Switches of the running engine</summary>
      <Controls />
    </details>
  );
}

function Controls(): JSX.Element {
  return (
    <>
      <SwitchNews otherwise="A choice changes the running engine; answers that are being written go on." />
      <div class="switch-list">
        {capabilities.value?.switches.map((row) => (
          <SwitchControl key={row.key} row={row} compact />
        ))}
      </div>
    </>
  );
}
