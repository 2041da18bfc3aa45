// One switch as a group of native radio buttons: what it is now is checked, and choosing another
// value asks the engine for it, or draws the picture with it.
//
// They are radio buttons and not toggle buttons, because exactly one value holds, and whoever listens
// hears which of how many. In such a group the arrow keys choose while they move; so a choice by key
// counts once it has rested, and passing three values on the way to the fourth builds the engine
// once. A click is meant as it is. Nothing is disabled while a change is on its way, which would take
// the focus from under somebody's hands: what is chosen meanwhile waits for its turn.

import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import type { SwitchValue } from "../api/types";
import { effectOf } from "../state/effects";
import { choose, chosenOf, ownerOfPicture, type Owner, type Row } from "../state/rows";
import { wishes } from "../state/switching";
import { EffectTag } from "./EffectTag";

const REST_MS = 500;

interface Props {
  readonly row: Row;
  readonly owner: Owner;
  /** Its name stands beside it already. */
  readonly named?: boolean;
  /** Reasons fold away. */
  readonly compact?: boolean;
}

export function SwitchControl({ row, owner, named = false, compact = false }: Props): JSX.Element {
  const byKey = useRef(false);
  const { key, current, values } = row;
  const chosen = chosenOf(row, owner);
  const lacking = values.filter(({ value, why_not }) => why_not && value !== current);
  const reasons = lacking.length > 0 ? `why-not-${key}` : undefined;
  return (
    <div class="switch-control">
      <fieldset
        class="choice"
        data-changing={owner === "engine" && wishes.value.has(key)}
        onKeyDown={() => (byKey.current = true)}
        onPointerDown={() => (byKey.current = false)}
      >
        <legend class={named ? "hidden" : ""}>
          <code>{key}</code>
        </legend>
        {values.map(({ value }) => (
          <label key={value}>
            <input
              type="radio"
              name={`switch-${key}`}
              value={value}
              checked={value === chosen}
              disabled={lacking.some((one) => one.value === value)}
              aria-describedby={lacking.some((one) => one.value === value) ? reasons : undefined}
              onChange={() => choose(owner, key, value, byKey.current ? REST_MS : 0)}
            />
            <span>
              {value}
              {value === row.off && value !== "off" && <small> off</small>}
              {value !== chosen && owner === ownerOfPicture.value && <Would row={row} value={value} />}
            </span>
          </label>
        ))}
      </fieldset>
      {reasons && <WhyNot id={reasons} lacking={lacking} compact={compact} />}
    </div>
  );
}

/** What the value would do at the cursor, where that is known. */
function Would({ row, value }: { row: Row; value: string }): JSX.Element | null {
  const effect = effectOf(row.key, value);
  return effect && <EffectTag effect={effect} />;
}

interface WhyNotProps {
  readonly id: string;
  readonly lacking: readonly SwitchValue[];
  readonly compact: boolean;
}

/** Each reason names its value. */
function WhyNot({ id, lacking, compact }: WhyNotProps): JSX.Element {
  const list = (
    <ul id={id} class="why-not note">
      {lacking.map(({ value, why_not }) => (
        <li key={value}>{why_not}</li>
      ))}
    </ul>
  );
  if (!compact) return list;
  return (
    <details>
      <summary>
        Why no <code>{lacking.map(({ value }) => value).join(", ")}</code>
      </summary>
      {list}
    </details>
  );
}
