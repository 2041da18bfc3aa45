// What choosing another value of a switch would do to the time at the cursor, by the cost model.

import type { Kind } from "../data/provenance";
import { secondsAt } from "../data/curves";
import { curveIn } from "./sides";
import { isCurve } from "./curves";
import { link } from "./navigation";
import { setting } from "./setting";

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
  if (!isCurve(found)) return null;
  const { curves, curve } = found;
  const other = curves.curves.find((one) => one.switch === key && one.value === value);
  if (!other || curve !== curves.curves[0]) return null; // its neighbours are still on their way
  const [here, there] = [secondsAt(curves, curve, length), secondsAt(curves, other, length)];
  return { ratio: there / here, ms: (there - here) * 1e3, kind: curves.kind };
}
