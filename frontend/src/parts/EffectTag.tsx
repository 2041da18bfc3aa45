// What a value of a switch would do at the cursor: a factor and a time, with where they come from.

import type { JSX } from "preact";
import { KIND_WORD } from "../data/provenance";
import { threeDigits } from "../data/rates";
import { signed } from "../data/words";
import type { Effect } from "../state/effects";

/** Nearer to 1 than this is no difference that a model could tell. */
const NOTHING = 0.005;

/** "3.1 ×, +12.3 ms" beside the value. */
export function EffectTag({ effect }: { effect: Effect }): JSX.Element {
  const none = Math.abs(effect.ratio - 1) < NOTHING;
  return (
    <small class={`effect ${none ? "none" : effect.ratio > 1 ? "slower" : "faster"}`} data-kind={effect.kind}>
      {none ? "same time" : `${threeDigits(effect.ratio)} ×, ${signed(effect.ms)}`}
      {!none && effect.kind === "spec" && "?"}
      <span class="hidden">{`, ${KIND_WORD[effect.kind]}`}</span>
    </small>
  );
}
