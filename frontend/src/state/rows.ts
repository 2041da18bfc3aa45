// The switches as they stand beside the picture: those of the engine behind the page, or where the
// picture has switches of its own, those that the cost model knows.

import { computed } from "@preact/signals";
import type { Switch, SwitchValue } from "../api/types";
import { curveIn } from "./sides";
import { remember } from "./before";
import { isCurve } from "./curves";
import { switchesIn, textOf } from "./link";
import { go, link } from "./navigation";
import { capabilities } from "./server";
import { followsEngine, setting, textual } from "./setting";
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
  if (!isCurve(found)) return [];
  const { curves, curve } = found;
  const keys = Object.keys(curve.switches);
  return keys.map((key) => {
    const current = curve.switches[key] ?? "";
    const others = curves.curves.filter((one) => one.switch === key).map(({ value }) => value);
    const order = known.find((row) => row.key === key)?.choices ?? [];
    const rank = (value: string): number => (order.includes(value) ? order.indexOf(value) : order.length);
    const all = [...new Set([current, ...others])].sort((a, b) => rank(a) - rank(b));
    const values = all.map((value): SwitchValue => ({ value, why_not: "" }));
    return { key, current, values, off: known.find((row) => row.key === key)?.off ?? "off" };
  });
});

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
  const near = isCurve(found)
    ? found.curves.curves.find((one) => one.switch === key && one.value === value)
    : null;
  const after = { ...switchesIn(link.value.set), ...near?.switches, [key]: value };
  const own = now && !now.machine && !now.shape ? textual(now.loaded.run) : {};
  const changed = Object.entries(after).filter(([name, word]) => own[name] !== word);
  go({ set: textOf(Object.fromEntries(changed)) });
}
