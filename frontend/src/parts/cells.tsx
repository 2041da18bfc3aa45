// Cells of the tables of figures. A cell takes a figure, not a number: there is no way to show one
// without its origin.

import type { JSX } from "preact";
import { KIND_WORD, type Figure } from "../data/provenance";
import type { Part } from "../data/stages";
import { duration, percent } from "../data/words";
import { Swatch } from "./Swatch";

/** A table's first row. */
export function Heads({ texts }: { texts: readonly string[] }): JSX.Element {
  return (
    <thead>
      <tr>
        {texts.map((text) => (
          <th key={text} scope="col">
            {text}
          </th>
        ))}
      </tr>
    </thead>
  );
}

export function Name({ part, figure }: { part: Part; figure: Figure }): JSX.Element {
  return (
    <th scope="row" title={part.about}>
      <Swatch color={part.color} kind={figure.kind} /> {part.label}
    </th>
  );
}

export const Time = ({ figure }: { figure: Figure }): JSX.Element => (
  <td data-kind={figure.kind}>{duration(figure.value)}</td>
);
export const Share = ({ figure }: { figure: Figure }): JSX.Element => (
  <td data-kind={figure.kind}>{percent(figure.value)}</td>
);

/** A share that stands alone, in large type. */
export const ShareNumber = ({ figure }: { figure: Figure }): JSX.Element => (
  <span class="number" data-kind={figure.kind}>
    {percent(figure.value)}
  </span>
);

/** How far a figure can be trusted; a single block says nothing of that. */
export const range = ({ interval, n }: Figure, text: (lo: number, hi: number) => string): string =>
  n === 1 ? "one block" : text(interval.lo, interval.hi);
export const source = ({ kind, n }: Figure): string =>
  n > 0 ? `${KIND_WORD[kind]}, n ${n}` : KIND_WORD[kind];
