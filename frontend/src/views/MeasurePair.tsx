// The button that has the last change measured: what was before and what is now, in turns.

import type { JSX } from "preact";
import { before } from "../state/before";
import { measuring, isEngaged, startMeasuring } from "../state/measuring";
import { capabilities } from "../state/server";
import { followsEngine, setting } from "../state/setting";

export function MeasurePair(): JSX.Element | null {
  const [then, now] = [before.value, setting.value];
  const rows = capabilities.value?.switches ?? [];
  if (!then || !now || !followsEngine.value || rows.length === 0) return null;
  const changed = rows.filter(({ key }) => key in then.switches && then.switches[key] !== now.switches[key]);
  if (changed.length === 0) return null;
  const against = Object.fromEntries(changed.map(({ key }) => [key, then.switches[key] ?? ""]));
  return (
    <p class="pair">
      <button
        type="button"
        class="quiet"
        disabled={measuring.value.state === "running" && isEngaged()}
        onClick={() => void startMeasuring({ against })}
      >
        Measure both here, in turns
      </button>
    </p>
  );
}
