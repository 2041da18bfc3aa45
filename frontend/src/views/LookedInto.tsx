// What is looked into: a text of the reader's own, and a head. Both views of attention begin with it.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { inTokens, tokens } from "../data/words";
import { go } from "../state/navigation";
import {
  head,
  layer,
  looking,
  lookInto,
  lookTrouble,
  numHeads,
  numLayers,
  text,
  view,
} from "../state/looking";
import { capabilities } from "../state/server";

export function TextField(): JSX.Element {
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (field.current) field.current.value = text.value;
  }, [text.value]);
  const submit = (event?: Event): void => {
    event?.preventDefault();
    if (field.current) lookInto(field.current.value);
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    submit(event);
  };
  return (
    <form class="looked-into" onSubmit={submit}>
      <label for="looked-text">Text</label>
      <textarea
        id="looked-text"
        ref={field}
        rows={2}
        defaultValue={text.value}
        onKeyDown={keys}
        aria-describedby="looked-note"
      />
      <button type="submit" class="primary">
        Look
      </button>
      <p id="looked-note" class="note">
        {view.value && `${inTokens(view.value.num_tokens)}, of 512 at most. `}
        Enter looks, Shift + Enter starts a new line. A short text becomes part of the address, a longer one
        stays in this page.
      </p>
    </form>
  );
}

export function Trouble(): JSX.Element | null {
  if (lookTrouble.value)
    return (
      <p role="alert" class="banner">
        {lookTrouble.value}
      </p>
    );
  if (!capabilities.value) return <p class="empty">Waiting for the server …</p>;
  if (view.value) return null;
  return (
    <p class="empty" role="status">
      {looking.value ? "The text is on its way through the model …" : ""}
    </p>
  );
}

/** Layer and head as two fields, counted from 0 as in the engine. */
export function HeadFields(): JSX.Element {
  return (
    <>
      <IndexField
        label="Layer"
        value={layer.value}
        count={numLayers.value}
        onChange={(n) => go({ layer: n })}
      />
      <IndexField label="Head" value={head.value} count={numHeads.value} onChange={(n) => go({ head: n })} />
    </>
  );
}

interface IndexProps {
  readonly label: string;
  readonly value: number;
  readonly count: number;
  readonly onChange: (value: number) => void;
}

function IndexField({ label, value, count, onChange }: IndexProps): JSX.Element {
  return (
    <label class="field">
      {label}
      <select
        value={String(value)}
        onChange={(event) => onChange(Number(event.currentTarget.value))}
        aria-label={`${label}, of ${tokens(count)}`}
      >
        {Array.from({ length: count }, (_, index) => (
          <option key={index} value={String(index)}>
            {index}
          </option>
        ))}
      </select>
    </label>
  );
}
