// The measured lengths on a native slider, one step each; every key that a slider has works.

import type { JSX } from "preact";
import { inTokens } from "../data/words";

interface Props {
  readonly lengths: readonly number[];
  readonly chosen: number;
  readonly onChoose: (length: number) => void;
}

export function LengthRange({ lengths, chosen, onChoose }: Props): JSX.Element | null {
  if (lengths.length < 2) return null;
  return (
    <label class="length">
      <span>Length</span>
      <input
        type="range"
        class="cursor"
        min="0"
        max={lengths.length - 1}
        step="1"
        value={lengths.indexOf(chosen)}
        aria-valuetext={inTokens(chosen)}
        onInput={(event) => onChoose(lengths[Number(event.currentTarget.value)] ?? chosen)}
      />
      <output>{inTokens(chosen)}</output>
    </label>
  );
}
