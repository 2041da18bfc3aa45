// The switch that lays the model over what was measured, and words for where there is none.

import type { JSX } from "preact";
import type { RunFile } from "../data/runfile";
import { inTokens, percent } from "../data/words";
import { isFailed, isWaiting } from "../state/asked";
import { calibrations } from "../state/calibration";
import { counts } from "../state/counts";
import { go, link } from "../state/navigation";
import { runA } from "../state/runs";
import { offline } from "../state/server";
import type { Side } from "../state/sides";

export function ModelSwitch(): JSX.Element | null {
  const run = runA.value?.run;
  if (!run || (offline.value && counts.of(run) === null)) return null;
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

/** Why there is no curve though one is asked for. */
function whyNot(run: RunFile): string {
  for (const found of [counts.of(run), calibrations.of(run)]) {
    if (isFailed(found)) return found.failed;
    if (isWaiting(found)) return "the machine is being fitted to it …";
  }
  return "it has no calibration here";
}

/** Of a picture that nobody measured: where it comes from, and how far to trust it. */
export function AboutSetting({ side: { budget } }: { side: Side }): JSX.Element {
  const wall = budget.columns[0]?.wall;
  const [lo, hi] = wall ? [wall.interval.lo / wall.value - 1, wall.interval.hi / wall.value - 1] : [0, 0];
  return (
    <p class="note trust" role="status">
      {`Nobody measured this here: it is what the cost model says${budget.how && ` with ${budget.how}`}. A stage's time may be off by ${percent(lo, 0)} to +${percent(hi, 0)}. `}
      {budget.kind !== "spec"
        ? "The machine is the one that was fitted to the shown run. "
        : link.value.machine
          ? "The machine is that of a data sheet, so that all times are the least that it could take. "
          : "Nothing was measured on this machine that tells: take it for an order of magnitude. "}
      The model knows one stage for all of the host&apos;s work, host gap, and no time that no stage claims.
    </p>
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
