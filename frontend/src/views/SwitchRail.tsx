// The switches beside a view, so that their effect can be watched there. Where a talk or a budget
// leaves no room beside it they are folded away above it.
//
// They are those of the running engine while the picture is one of its own, and else those of the
// picture: then a choice asks "what if", and no engine changes.

import type { ComponentChildren, JSX } from "preact";
import { SwitchControl } from "../parts/SwitchControl";
import { SwitchNews } from "../parts/SwitchNews";
import { useMedia } from "../parts/useMedia";
import type { View } from "../state/link";
import { ownerOfPicture, rows, type Owner } from "../state/rows";
import { capabilities } from "../state/server";
import { isElsewhere } from "../state/setting";
import { AboutEffects } from "./Effects";
import { WhatIf } from "./WhatIf";

/** Windows in which the page grows by the rail, so that charts keep their width: as in the stylesheet. */
const WIDE = "(width >= 100rem)";
/** A talk is narrow, and leaves room in most windows. */
const ROOM: Partial<Record<View, string>> = { chat: "(width >= 62rem)" };
const ABOVE: readonly View[] = ["budget", "chat"];

export function WithSwitches({ view, children }: { view: View; children: ComponentChildren }): JSX.Element {
  const room = useMedia(ROOM[view] ?? WIDE);
  const talks = view === "chat";
  const there = talks ? capabilities.value !== null : rows.value.length > 0 || isElsewhere.value;
  const wanted = there && view !== "switches"; // which shows them itself
  const beside = wanted && room;
  return (
    <div class={beside ? "railed" : ""}>
      {beside ? <Beside talks={talks} /> : wanted && ABOVE.includes(view) && <Above talks={talks} />}
      <div>{children}</div>
    </div>
  );
}

/** A talk is always one with the engine, whatever is shown beside it. */
const ownerOf = (talks: boolean): Owner => (talks ? "engine" : ownerOfPicture.value);

const nameOf = (talks: boolean): string =>
  ownerOf(talks) === "engine" ? "Switches of the running engine" : "What if: switches of this picture";

function Beside({ talks }: { talks: boolean }): JSX.Element {
  return (
    <section class="rail" aria-label={nameOf(talks)}>
      <h2>{ownerOf(talks) === "engine" ? "Switches" : "What if"}</h2>
      <Controls talks={talks} />
    </section>
  );
}

function Above({ talks }: { talks: boolean }): JSX.Element {
  return (
    <details class="rail">
      <summary>{nameOf(talks)}</summary>
      <Controls talks={talks} />
    </details>
  );
}

function Controls({ talks }: { talks: boolean }): JSX.Element {
  const owner = ownerOf(talks);
  const shown = talks ? (capabilities.value?.switches ?? []) : rows.value;
  return (
    <>
      {owner === "engine" ? (
        <SwitchNews otherwise="A choice changes the running engine; answers that are being written go on." />
      ) : (
        <p class="switch-news">A choice changes this picture alone, and no engine.</p>
      )}
      <div class="switch-list">
        {shown.map((row) => (
          <SwitchControl key={row.key} row={row} owner={owner} compact />
        ))}
      </div>
      {!talks && <AboutEffects />}
      {!talks && <WhatIf />}
    </>
  );
}
