// The switch that lays the model over what was measured, and words for where there is none.

import type { JSX } from "preact";
import { inTokens, percent } from "../data/words";
import { calibrationOf } from "../state/calibration";
import { whyNot } from "../state/modelled";
import { go, link } from "../state/navigation";
import { runA } from "../state/runs";
import { offline } from "../state/server";
import type { Side } from "./Charts";

export function ModelSwitch(): JSX.Element | null {
  const run = runA.value?.run;
  if (!run || (offline.value && calibrationOf(run) === null)) return null;
  return (
    <label class="field check">
      <input
        type="checkbox"
        checked={link.value.model === "on"}
        onChange={(event) => go({ model: event.currentTarget.checked ? "on" : "off" })}
      />
      Model
    </label>
  );
}

/** What the lines are, for each run; or why a run has none. */
export function AboutModel({ sides }: { sides: readonly Side[] }): JSX.Element | null {
  if (link.value.model === "off") return null;
  return (
    <>
      {sides.map((side) => (
        <p key={side.name} class="note trust" role="status">
          {sides.length > 1 && `Run ${side.name}. `}
          {side.model ? described(side) : `No model of this run: ${whyNot(side.loaded.run)}`}
        </p>
      ))}
    </>
  );
}

function described({ budget, model, stops }: Side): string {
  const [last, end] = [budget.columns.at(-1)?.length ?? 0, stops.at(-1)?.length ?? 0];
  const wall = model?.columns[0]?.wall;
  const band =
    wall &&
    `${percent(wall.interval.lo / wall.value - 1, 0)} to +${percent(wall.interval.hi / wall.value - 1, 0)}`;
  const beyond =
    end > last
      ? ` Beyond ${inTokens(last)}, the longest that was measured, only the model is drawn, hatched.`
      : "";
  return `Lines: where the model draws the borders of the stages. Hatched around attention's: its 90 % band; a stage's time may be off by ${band ?? "an unknown part"}.${beyond} The model knows one stage for all of the host's work, host gap, and no time that no stage claims.`;
}
