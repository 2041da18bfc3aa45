// What can be switched in this engine, what it is set to, and whether this machine can do it.

import type { JSX } from "preact";
import type { Switch } from "../api/types";
import { DEFAULT_CHOICES, settled } from "../model/work";
import { capabilities } from "../state/server";
import { AboutEffects, EffectOf } from "./Effects";

const STATES: Record<Switch["state"], string> = {
  live: "can change while it runs",
  reload: "needs a reload",
  modelled: "modelled only",
  absent: "not on this machine",
};

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
    <li class={`switch ${row.state}`}>
      <h3>
        <code>{row.key}</code>
      </h3>
      <p class="value">
        <strong>{on ? "on" : "off"}</strong>{" "}
        {row.current !== "on" && row.current !== "off" && <code>{inWords(row.key, row.current)}</code>}
      </p>
      <p class="state">
        {STATES[row.state]}
        {row.why && <span class="note">: {row.why}</span>}
      </p>
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
          . Default: {inWords(row.key, row.default)}. {EXACTNESS[row.exactness] ?? row.exactness}. Source:{" "}
          {row.paper}.
        </p>
      </details>
    </li>
  );
}

/** -1 stands for what suits the kind of device: here it is the number that it comes to. */
function inWords(key: string, value: string): string {
  if (key !== "chunked_prefill" || value !== "-1") return value;
  const device = capabilities.value?.engine.device.startsWith("cuda") ? "cuda" : "cpu";
  return `auto: ${settled(DEFAULT_CHOICES, device).chunked_prefill}`;
}
