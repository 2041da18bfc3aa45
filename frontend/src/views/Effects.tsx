// Whose figures stand beside the switches, and what they are worth.

import type { JSX } from "preact";
import { SCOPE_WORDS } from "../data/budget";
import { inTokens } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { isFailed } from "../state/asked";
import { curveIn } from "../state/sides";
import { isCurve } from "../state/curves";
import { link } from "../state/navigation";
import { setting } from "../state/setting";

export function AboutEffects(): JSX.Element | null {
  const now = setting.value;
  const { phase, batch, length } = link.value;
  const found = now && curveIn(now, phase, batch);
  if (isFailed(found))
    return <p class="note">{`What a value would cost is not modelled: ${found.failed}`}</p>;
  if (!isCurve(found)) return null;
  const { model, machine, kind, not_modelled: unknown } = found.curves;
  return (
    <p class="note about-effects">
      Beside each other value: how many times as long {SCOPE_WORDS[phase]} of {inTokens(length)} would take,
      {batch > 1 && ` at batch ${batch},`} on {model} and {machine}; with a question mark where nothing here
      was measured that tells. <KindTag kind={kind} />
      {unknown.length > 0 && ` The cost model knows nothing of ${unknown.join(" and ")}.`}
    </p>
  );
}
