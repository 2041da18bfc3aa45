// The length cursor: a native slider, so that every keyboard and screen reader knows it. Its places
// are those of the chart's axis; it rests on the lengths that were measured and on no others.

import type { JSX } from "preact";
import type { Frame } from "../chart/geometry";
import { nearest, type Column } from "../data/budget";
import { KIND_WORDS } from "../data/provenance";
import { go, link } from "../state/navigation";
import type { Side } from "./Charts";
import { spoken } from "./spoken";

/** A slider's ends are half a thumb inside it; in the stylesheet too. */
const THUMB = 24;
const PLACES_PER_OCTAVE = 100;
const PAGE = 3;

export function Cursor({ sides, frame }: { sides: readonly Side[]; frame: Frame }): JSX.Element | null {
  const [side] = sides;
  const columns = side?.budget.columns ?? [];
  const index = nearest(columns, link.value.length);
  const column = columns[index];
  if (!side || !column || columns.length < 2) return null;

  const drag = (slider: HTMLInputElement): void => {
    const chosen = columns[nearest(columns, 2 ** (Number(slider.value) / PLACES_PER_OCTAVE))];
    if (!chosen) return;
    slider.value = String(placeOf(chosen));
    go({ length: chosen.length });
  };
  const press = (event: KeyboardEvent): void => {
    const steps = KEYS.get(event.key);
    const chosen = columns[Math.min(Math.max(index + (steps ?? 0), 0), columns.length - 1)];
    if (steps === undefined || !chosen) return;
    event.preventDefault();
    go({ length: chosen.length });
  };
  return (
    <input
      type="range"
      class="cursor"
      aria-label="Length in tokens"
      aria-valuetext={`${spoken(column, side.budget)}, ${KIND_WORDS[side.budget.kind]}`}
      min={placeOf(columns[0] ?? column)}
      max={placeOf(columns.at(-1) ?? column)}
      step="1"
      value={placeOf(column)}
      style={{ marginLeft: `${frame.left - THUMB / 2}px`, width: `${frame.right - frame.left + THUMB}px` }}
      onInput={(event) => drag(event.currentTarget)}
      onKeyDown={press}
    />
  );
}

const placeOf = (column: Column): number => Math.round(Math.log2(column.length) * PLACES_PER_OCTAVE);

/** How many measured lengths a key moves. */
const KEYS = new Map([
  ["ArrowLeft", -1],
  ["ArrowDown", -1],
  ["ArrowRight", 1],
  ["ArrowUp", 1],
  ["PageDown", -PAGE],
  ["PageUp", PAGE],
  ["Home", -Infinity],
  ["End", Infinity],
]);
