// What choosing another value of a switch would do to the time at the cursor, by the cost model.

import { nearest } from "../data/budget";
import type { Kind } from "../data/provenance";
import { secondsAt } from "../data/curves";
import { curveIn, kindOf, measuredSide } from "./sides";
import { isCurve } from "./curves";
import { link } from "./navigation";
import { runOf, setting, type Setting } from "./setting";

export interface Effect {
  /** Time with the other value / time as it is. */
  readonly ratio: number;
  /** Milliseconds more. */
  readonly ms: number;
  readonly kind: Kind;
}

/** Null where it is not known. */
export function effectOf(key: string, value: string): Effect | null {
  const now = setting.value;
  const { phase, batch, length } = link.value;
  const found = now && curveIn(now, phase, batch);
  if (!now || !isCurve(found)) return null;
  const { curves, curve } = found;
  const other = curves.curves.find((one) => one.switch === key && one.value === value);
  if (!other || curve !== curves.curves[0]) return null; // its neighbours are still on their way
  const measured = measuredEffect(now, { ...now.switches, ...other.switches, [key]: value });
  if (measured) return measured;
  const [here, there] = [secondsAt(curves, curve, length), secondsAt(curves, other, length)];
  return { ratio: there / here, ms: (there - here) * 1e3, kind: kindOf(curves, other, now) };
}

/** The same where both settings were measured here. */
function measuredEffect(now: Setting, switches: Setting["switches"]): Effect | null {
  const sides = [runOf(now), runOf({ ...now, switches })].map((run) => run && measuredSide("A", run));
  const [here, there] = sides.map(
    (side) => side?.budget.columns[nearest(side.budget.columns, link.value.length)],
  );
  if (!here || !there || here.length !== there.length || here.wall.kind !== "measured") return null;
  const [a, b] = [here.wall.value, there.wall.value];
  return there.wall.kind === "measured" ? { ratio: b / a, ms: b - a, kind: "measured" } : null;
}
