// A whole number of 1 or more, typed or stepped. What is no such number changes nothing, and is put
// back when the reader leaves the field.

import type { JSX } from "preact";

interface Props {
  readonly label: string;
  readonly value: number;
  readonly most: number;
  readonly onChange: (value: number) => void;
}

export function NumberField({ label, value, most, onChange }: Props): JSX.Element {
  const read = (field: HTMLInputElement): void => {
    const given = field.valueAsNumber;
    if (Number.isInteger(given) && given >= 1 && given <= most) onChange(given);
  };
  return (
    <label class="field">
      {label}
      <input
        type="number"
        min="1"
        max={most}
        step="1"
        value={value}
        onInput={(event) => read(event.currentTarget)}
        onBlur={(event) => (event.currentTarget.value = String(value))}
      />
    </label>
  );
}
