// What was drawn before the last choice: its outline stays behind the new picture.

import { computed, signal } from "@preact/signals";
import { setting, type Setting } from "./setting";

const remembered = signal<Setting | null>(null);

/** To be called before something is chosen that changes the picture. */
export function remember(): void {
  remembered.value = setting.peek();
}

export function forget(): void {
  remembered.value = null;
}

/** Null where nothing was chosen yet, or another run is shown by now, or nothing has come of it. */
export const before = computed<Setting | null>(() => {
  const [then, now] = [remembered.value, setting.value];
  if (!then || !now || then.loaded.run.id !== now.loaded.run.id) return null;
  return sameSetting(then, now) ? null : then;
});

const sameSetting = (a: Setting, b: Setting): boolean =>
  a.machine === b.machine &&
  a.shape === b.shape &&
  Object.keys({ ...a.switches, ...b.switches }).every((key) => a.switches[key] === b.switches[key]);
