// What turning one optimization off does to the length from which on attention matters (S10).
//
// The twin of `is_on`, `without` and `effects` in src/pellucid/explore/crossover.py. Which switch
// excludes which stands in switches.json, written from the switchboard (src/pellucid/features.py) by
// `python tests/golden/make_roofline.py` and not edited by hand.

import { LEVELS } from "../data/answers";
import { type Budgets, crossing, type Crossing, shareCurve } from "./crossover";
import ROWS from "./switches.json" with { type: "json" };
import type { Choices } from "./work";

/** S10 without a switch, and by how many tokens it moves; null where either side has none. */
export interface Effect extends Crossing {
  readonly off: string;
  readonly delta: number | null;
}

type Settings = Map<string, string>;

const S10 = LEVELS[1].share;

/** Whether the model knows the switch at all: some bear on no step's cost. */
export function isModelled(key: string, choices: Choices): boolean {
  return key === "weights" || key in choices;
}

export function isOn(choices: Choices, key: string): boolean {
  if (key === "weights") return choices.weight_bytes < choices.activation_bytes;
  return (settingsOf(choices).get(key) ?? offOf(key)) !== offOf(key);
}

/** `choices` with one switch off, and those that do not work without it. */
export function without(choices: Choices, key: string): Choices {
  if (key === "weights") return { ...choices, weight_bytes: choices.activation_bytes, head_bytes: 0 };
  const settings = settingsOf(choices).set(key, offOf(key));
  for (const other of settings.keys()) {
    if (isExcluded(other, settings)) settings.set(other, offOf(other));
  }
  const { chunked_prefill: chunk, ...others } = Object.fromEntries(settings);
  return { ...choices, ...others, chunked_prefill: Number(chunk) };
}

/** What each switch that is on does to S10, by its key; limit: tokens looked at. */
export function effects(
  budgetsWith: (choices: Choices) => Budgets,
  choices: Choices,
  limit: number,
): { readonly here: Crossing; readonly found: Readonly<Record<string, Effect>> } {
  const s10 = (these: Choices): Crossing => crossing(shareCurve(budgetsWith(these), 1, 1), S10, limit);
  const here = s10(choices);
  const on = ROWS.filter(({ key }) => isOn(choices, key));
  const found = on.map(({ key, off }): [string, Effect] => {
    const there = s10(without(choices, key));
    const delta = here.value === null || there.value === null ? null : there.value - here.value;
    return [key, { off, ...there, delta }];
  });
  return { here, found: Object.fromEntries(found) };
}

/** The switches that the model knows by name, as text, in the order of the switchboard. */
function settingsOf(choices: Choices): Settings {
  const known = ROWS.filter(({ key }) => key in choices);
  return new Map(known.map(({ key }) => [key, String(choices[key as keyof Choices])]));
}

const rowOf = (key: string): (typeof ROWS)[number] | undefined => ROWS.find((row) => row.key === key);
const offOf = (key: string): string => rowOf(key)?.off ?? "off";

/** Whether some other setting is one that this switch does not work with. */
function isExcluded(key: string, settings: Settings): boolean {
  return (rowOf(key)?.conflicts ?? []).some((conflict) => {
    const [other = "", value] = conflict.split("=");
    return settings.get(other) === value;
  });
}
