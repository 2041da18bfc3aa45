// The length cursor: a native slider, so that every keyboard and screen reader knows it. Its places
// are those of the chart's axis; it rests on the lengths that were measured, and with the model on
// round ones beyond them, and on no others.

import type { JSX } from "preact";
import type { Frame } from "../chart/geometry";
import { nearest, originOf } from "../data/budget";
import type { Stop } from "../data/stops";
import { go, link } from "../state/navigation";
import type { Side } from "../state/sides";
import { spoken } from "./spoken";

/** A slider's ends are half a thumb inside it; in the stylesheet too. */
const THUMB = 24;
const PLACES_PER_OCTAVE = 100;
const PAGE = 3;

export function Cursor({ sides, frame }: { sides: readonly Side[]; frame: Frame }): JSX.Element | null {
  const [side] = sides;
  const stops = side?.stops ?? [];
  const index = nearest(stops, link.value.length);
  const stop = stops[index];
  if (!side || !stop || stops.length < 2) return null;

  const drag = (slider: HTMLInputElement): void => {
    const chosen = stops[nearest(stops, 2 ** (Number(slider.value) / PLACES_PER_OCTAVE))];
    if (!chosen) return;
    slider.value = String(placeOf(chosen));
    go({ length: chosen.length });
  };
  const press = (event: KeyboardEvent): void => {
    const steps = KEYS.get(event.key);
    const chosen = stops[Math.min(Math.max(index + (steps ?? 0), 0), stops.length - 1)];
    if (steps === undefined || !chosen) return;
    event.preventDefault();
    go({ length: chosen.length });
  };
  return (
    <input
      type="range"
      class="cursor"
      aria-label="Length in tokens"
      aria-valuetext={valueText(stop, side)}
      min={placeOf(stops[0] ?? stop)}
      max={placeOf(stops.at(-1) ?? stop)}
      step="1"
      value={placeOf(stop)}
      style={{ marginLeft: `${frame.left - THUMB / 2}px`, width: `${frame.right - frame.left + THUMB}px` }}
      onInput={(event) => drag(event.currentTarget)}
      onKeyDown={press}
    />
  );
}

const placeOf = ({ length }: Stop): number => Math.round(Math.log2(length) * PLACES_PER_OCTAVE);

/** What was measured there; where nothing was, what the model says. */
function valueText({ measured, modelled }: Stop, { budget, model }: Side): string {
  if (measured) return `${spoken(measured, budget)}, ${originOf(budget)}`;
  return modelled && model ? `${spoken(modelled, model)}, ${originOf(model)}` : "";
}

/** How many stops a key moves. */
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
