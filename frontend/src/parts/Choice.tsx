// One of a few: a group of native radio buttons that looks like one control.

import type { JSX } from "preact";

interface Props<T extends string> {
  readonly legend: string;
  readonly name: string;
  readonly choices: readonly { readonly key: T; readonly text: string }[];
  readonly chosen: T;
  readonly onChoose: (key: T) => void;
}

export function Choice<T extends string>({ legend, name, choices, chosen, onChoose }: Props<T>): JSX.Element {
  return (
    <fieldset class="choice">
      <legend>{legend}</legend>
      {choices.map(({ key, text }) => (
        <label key={key}>
          <input
            type="radio"
            name={name}
            value={key}
            checked={key === chosen}
            onChange={() => onChoose(key)}
          />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  );
}
