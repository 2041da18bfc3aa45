// Another machine, another model, another batch: the same question, asked of what is not here.

import { useEffect, useState } from "preact/hooks";
import type { JSX } from "preact";
import { getKnown, saying } from "../api/client";
import type { Known } from "../api/types";
import { parse, record } from "../data/fields";
import { NumberField } from "../parts/NumberField";
import { remember } from "../state/before";
import { go, link } from "../state/navigation";
import { runA } from "../state/runs";
import { offline } from "../state/server";
import { pasted, PASTED } from "../state/setting";

const MOST_BATCH = 4096;

export function WhatIf(): JSX.Element | null {
  const [known, setKnown] = useState<Known | null>(null);
  useEffect(() => {
    // A saved copy has nobody to ask, and its policy lets it ask nobody.
    if (!offline.peek()) void getKnown().then(setKnown, () => undefined);
  }, []);
  const run = runA.value?.run;
  if (offline.value || !known || !run) return null;
  const { machine, shape, batch, set } = link.value;
  const own = { machine: "", shape: "", set: "" };
  return (
    <fieldset class="what-if">
      <legend>What if it were …</legend>
      <Select
        label="Machine"
        chosen={machine}
        own="the one that was measured"
        options={known.machines.map(({ name, title }) => [name, title])}
        onChoose={(name) => change({ machine: name, set: "" })}
      />
      <Select
        label="Model"
        chosen={shape}
        own={run.model.name}
        options={[...known.shapes.map((name) => [name, name] as const), [PASTED, "a config.json …"]]}
        onChoose={(name) => change({ shape: name, set: "" })}
      />
      {shape === PASTED && <Paste />}
      <NumberField
        label="Batch"
        value={batch}
        most={MOST_BATCH}
        onChange={(count) => change({ batch: count })}
      />
      {(machine || shape || set) && (
        <button type="button" class="quiet" onClick={() => change(own)}>
          Back to what was measured
        </button>
      )}
    </fieldset>
  );
}

function change(to: Parameters<typeof go>[0]): void {
  remember();
  go(to);
}

interface SelectProps {
  readonly label: string;
  readonly chosen: string;
  /** What it is if nothing else is chosen. */
  readonly own: string;
  readonly options: readonly (readonly [name: string, text: string])[];
  readonly onChoose: (name: string) => void;
}

function Select({ label, chosen, own, options, onChoose }: SelectProps): JSX.Element {
  return (
    <label class="field">
      {label}
      <select value={chosen} onChange={(event) => onChoose(event.currentTarget.value)}>
        <option value="">{own}</option>
        {options.map(([name, text]) => (
          <option key={name} value={name}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A model's config.json, as text. It stays in the page's memory. */
function Paste(): JSX.Element {
  const [trouble, setTrouble] = useState("");
  const take = (text: string): void => {
    try {
      pasted.value = record(parse(text), "config.json");
      setTrouble("");
    } catch (error) {
      setTrouble(text.trim() ? saying(error) : "");
    }
  };
  return (
    <label class="field paste">
      The model&apos;s config.json
      <textarea rows={4} spellcheck={false} onInput={(event) => take(event.currentTarget.value)} />
      {trouble && <span role="alert">{trouble}</span>}
    </label>
  );
}
