// What can be switched in this engine, what it came to on this machine, and why.

import type { JSX } from "preact";
import type { Switch } from "../api/types";
import { capabilities } from "../state/server";
import { AboutEffects, EffectOf } from "./Effects";

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
        Switches are set when the server starts.
      </p>
      <AboutEffects />
      <ul class="switches">
        {switches.map((row) => (
          <Row key={row.key} row={row} />
        ))}
      </ul>
    </section>
  );
}

function Row({ row }: { row: Switch }): JSX.Element {
  const on = row.current !== row.off;
  return (
    <li class="switch">
      <h3>
        <code>{row.key}</code>
      </h3>
      <p class="value">
        <strong>{on ? "on" : "off"}</strong>{" "}
        {row.current !== "on" && row.current !== "off" && <code>{row.current}</code>}
      </p>
      <p class="state">{row.why}</p>
      <EffectOf name={row.key} />
      <details>
        <summary>
          What it does<span class="hidden">: {row.key}</span>
        </summary>
        <p>{row.about}</p>
        <p class="note">
          Choices:{" "}
          {row.choices
            .map((choice) => (choice === row.off && choice !== "off" ? `${choice} (off)` : choice))
            .join(", ")}
          . Default: {row.default === "-1" ? "auto" : row.default}. Set by <code>{row.flag}</code>.{" "}
          {EXACTNESS[row.exactness] ?? row.exactness}. Source: {row.paper}.
        </p>
      </details>
    </li>
  );
}
