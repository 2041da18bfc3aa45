// A modelled curve as a budget of the same form as what was measured, so that the same marks draw it
// and the same tables show it. Every figure comes with the model's band: a stage may take so many times
// what is computed, at least and at most. A share is least where attention is as fast and the rest as
// slow as that allows, as for the band of a crossing.
//
// The model knows one stage for all that the host does, and no time that no stage claims.

import type { Curve, Curves } from "../api/types";
import type { Budget, Column } from "./budget";
import { Figure } from "./provenance";
import { OTHER, partOf, partsOf, type Detail } from "./stages";

const MS_PER_S = 1e3;

/** how: what makes it another setting than the shown run's, in words. */
export function budgetOfCurve(curves: Curves, { seconds }: Curve, detail: Detail, how = ""): Budget {
  const { stages, lengths, band, kind } = curves;
  const parts = partsOf(stages, detail).filter(({ key }) => key !== OTHER);
  const groups = parts.map(({ key }) => ({
    key,
    places: stages.flatMap((stage, place) => (partOf(stage, detail) === key ? [place] : [])),
  }));
  const timed = (s: number): Figure =>
    Figure.modelled(s * MS_PER_S, s * MS_PER_S * band[0], s * MS_PER_S * band[1], kind);
  const shared = (mine: number, rest: number): Figure => {
    const share = (a: number, b: number): number => (mine * a) / (mine * a + rest * b);
    return Figure.modelled(share(1, 1), share(band[0], band[1]), share(band[1], band[0]), kind);
  };
  const columns = lengths.map((length, index): Column => {
    const row = seconds[index] ?? [];
    const total = sum(row);
    const amounts = groups.map(({ key, places }) => {
      const mine = sum(places.map((place) => row[place] ?? 0));
      return [key, { ms: timed(mine), share: shared(mine, total - mine) }] as const;
    });
    return { length, wall: timed(total), amounts: new Map(amounts) };
  });
  return { phase: curves.scope, batch: curves.batch, kind, how, parts, columns };
}

/** Seconds of a step at the length that is nearest to one. */
export function secondsAt({ lengths }: Curves, { seconds }: Curve, length: number): number {
  const far = (place: number): number => Math.abs(Math.log((lengths[place] ?? 1) / length));
  const nearest = lengths.reduce((best, _, place) => (far(place) < far(best) ? place : best), 0);
  return sum(seconds[nearest] ?? []);
}

export type Switches = Readonly<Record<string, string>>;

/** Whether the curve holds for these switches; those that the model does not know make no difference. */
export const holdsFor = (curve: Curve, switches: Switches): boolean =>
  Object.entries(curve.switches).every(([key, value]) => switches[key] === value);

/**
 * The curve for these switches, among what the server sent.
 *
 * Either one that holds for all of them, or one that was made by the one switch in which they differ
 * from what was asked: what else that switch takes along, whoever chose it has not said yet.
 */
export function curveFor(known: readonly Curves[], switches: Switches): [Curves, Curve] | null {
  for (const curves of known)
    for (const curve of curves.curves) if (holdsFor(curve, switches)) return [curves, curve];
  for (const curves of known) {
    const [asked, ...others] = curves.curves;
    const changed = Object.entries(asked?.switches ?? {}).filter(([key, value]) => switches[key] !== value);
    const [key, value] = changed.length === 1 ? (changed[0] ?? []) : [];
    const found = others.find((one) => one.switch === key && one.value === switches[key ?? ""]);
    if (key !== undefined && value !== undefined && found) return [curves, found];
  }
  return null;
}

/** "kv_cache off, attention naive": in what the second differs from the first, as far as both say. */
export const difference = (from: Switches, to: Switches): string =>
  Object.entries(to)
    .filter(([key, value]) => key in from && from[key] !== value)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ");

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
