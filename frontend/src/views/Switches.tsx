// What can be switched in this engine, what it is now on this machine, and why; a choice here changes
// the running engine.

import type { JSX } from "preact";
import type { Switch } from "../api/types";
import { SwitchControl } from "../parts/SwitchControl";
import { SwitchNews } from "../parts/SwitchNews";
import { ownerOfPicture } from "../state/rows";
import { capabilities } from "../state/server";
import { AboutEffects } from "./Effects";

const EXACTNESS: Record<string, string> = {
  bit: "The same bits either way",
  token: "The same greedy tokens either way (in bf16 near-ties may flip)",
  distribution: "The same sampling law either way",
  lossy: "Changes the output, within measured bounds",
};

export function SwitchesView(): JSX.Element {
  const switches = capabilities.value?.switches ?? [];
  return (
    <section>
      <h2>Switches</h2>
      <p class="lead">
        Every optimization of this engine is one switch with an off value, so that its effect can be measured.
        A choice changes the running engine for everybody who uses it; answers that are being written go on.
      </p>
      {ownerOfPicture.value === "engine" && <AboutEffects />}
      <ul class="switches">
        {switches.map((row) => (
          <Row key={row.key} row={row} />
        ))}
      </ul>
      <SwitchNews />
    </section>
  );
}

function Row({ row }: { row: Switch }): JSX.Element {
  return (
    <li class="switch">
      <div class="name">
        <h3>
          <code>{row.key}</code>
        </h3>
        <p class="value">
          <strong>{row.current === row.off ? "off" : "on"}</strong>
        </p>
      </div>
      <SwitchControl row={row} owner="engine" named />
      <div class="state">
        <p>{row.why}</p>
        <p class="note">
          The same at the next start:{" "}
          <code>
            {row.flag} {row.current}
          </code>
        </p>
      </div>
      <details>
        <summary>
          What it does<span class="hidden">: {row.key}</span>
        </summary>
        <p>{row.about}</p>
        <p class="note">
          Default: {row.default === "-1" ? "auto" : row.default}. {EXACTNESS[row.exactness] ?? row.exactness}.
          Source: {row.paper}.
        </p>
      </details>
    </li>
  );
}
