// The switches as they stand beside the picture: those of the engine behind the page, or where the
// picture has switches of its own, those that the cost model knows.

import { computed } from "@preact/signals";
import type { Switch, SwitchValue } from "../api/types";
import type { Switches } from "../data/curves";
import { isWaiting } from "./asked";
import { remember } from "./before";
import { isCurve, type Found } from "./curves";
import { switchesIn } from "./link";
import { go, link } from "./navigation";
import { capabilities } from "./server";
import { followsEngine, setOf, setting } from "./setting";
import { curveIn } from "./sides";
import { wish, wishes } from "./switching";

/** What a control needs of a switch. */
export interface Row extends Pick<Switch, "key" | "current" | "values"> {
  readonly off: string;
}

export const rows = computed<readonly Row[]>(() => {
  const known = capabilities.value?.switches ?? [];
  if (followsEngine.value) return known;
  const now = setting.value;
  const found = now && curveIn(now, link.value.phase, link.value.batch);
  const of = now && [now.loaded.run.id, now.machine, now.shape].join();
  if (!isCurve(found)) return isWaiting(found) || last?.of === of ? lastWith(now?.switches ?? {}) : [];
  const { curves, curve } = found;
  const keys = Object.keys(curve.switches);
  const shown = keys.map((key) => {
    const current = curve.switches[key] ?? "";
    const others = curves.curves.filter((one) => one.switch === key).map(({ value }) => value);
    const order = known.find((row) => row.key === key)?.choices ?? [];
    const rank = (value: string): number => (order.includes(value) ? order.indexOf(value) : order.length);
    // Of an answer to another setting, what it was asked for is a value too.
    const middle = curves.curves[0]?.switches[key] ?? current;
    const all = [...new Set([current, middle, ...others])].sort((a, b) => rank(a) - rank(b));
    const values = all.map((value): SwitchValue => ({ value, why_not: "" }));
    return { key, current, values, off: known.find((row) => row.key === key)?.off ?? "off" };
  });
  last = { of, shown };
  return shown;
});

/** Rows of the picture's own that were known last, and whose: until others are known they stay, lest
 * a control go from under somebody's hand; and so one can go back from what cannot be modelled. */
let last: { readonly of: string | null; readonly shown: readonly Row[] } | null = null;

const lastWith = (switches: Switches): readonly Row[] =>
  (last?.shown ?? []).map((row) => ({ ...row, current: switches[row.key] ?? row.current }));

/** Whose switches a control shows: the running engine's, or the picture's own. */
export type Owner = "engine" | "picture";

/** Those of the picture are the engine's while it follows them. */
export const ownerOfPicture = computed((): Owner => (followsEngine.value ? "engine" : "picture"));

/** What is checked: what was wished for last, if that is not so yet. */
export const chosenOf = ({ key, current }: Row, owner: Owner): string =>
  (owner === "engine" ? wishes.value.get(key) : undefined) ?? current;

/** Choose a value: of the running engine's switch, whatever is shown, or of the picture's own. */
export function choose(owner: Owner, key: string, value: string, restMs = 0): void {
  if (owner === ownerOfPicture.value) remember();
  if (owner === "engine") return wish(key, value, restMs);
  const now = setting.value;
  const found = now && curveIn(now, link.value.phase, link.value.batch);
  const after = {
    ...switchesIn(link.value.set),
    ...(isCurve(found) && becoming(found, key, value)),
    [key]: value,
  };
  if (now) go({ set: setOf(after, now) });
}

/** What is drawn, and what the value takes along in the answer that it came in: that is another
 * setting's while the drawn one's own is on its way. */
function becoming({ curves, curve }: Found, key: string, value: string): Switches {
  const middle = curves.curves[0]?.switches ?? {};
  const near = curves.curves.find((one) => one.switch === key && one.value === value);
  const along = Object.entries(near?.switches ?? {}).filter(([name, word]) => middle[name] !== word);
  return { ...curve.switches, ...Object.fromEntries(along) };
}
