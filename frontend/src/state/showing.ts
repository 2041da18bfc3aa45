// The experiment that the page is about, played by itself: everything off, the length growing, then one
// optimization after the other. It is all modelled, and changes no engine.

import { signal } from "@preact/signals";
import type { Switches } from "../data/curves";
import { inTokens } from "../data/words";
import { forget, remember } from "./before";
import { isCurve } from "./curves";
import { go, link } from "./navigation";
import { setOf, setting, textual, type Setting } from "./setting";
import { curveIn } from "./sides";

/** One picture of it: what is shown, and a sentence. */
export interface Scene {
  readonly switches: Switches;
  readonly length: number;
  readonly words: string;
  /** Whether a switch has changed, and not the length alone. */
  readonly isChange: boolean;
}

export interface Showing {
  readonly scenes: readonly Scene[];
  readonly at: number;
}

export const showing = signal<Showing | null>(null);

/** Off is another value of each; the order is that of the switchboard. */
const OFF: readonly (readonly [key: string, off: string, words: string])[] = [
  [
    "kv_cache",
    "off",
    "Keys and values are kept, so that a token computes itself alone and not the whole prefix again.",
  ],
  ["attention", "naive", "Attention goes in tiles: its scores never go through memory."],
  ["fused_kernels", "off", "The small steps between the matrices are one kernel each."],
  ["gemv", "off", "A single row is multiplied by a kernel of our own."],
  ["graphs", "off", "A step is recorded once and replayed, and no longer launched kernel by kernel."],
  ["overlap", "off", "The host plans the next step while the device computes this one."],
  ["weights", "dense", "Matrices are read as they are packed, and not expanded."],
];
const LENGTHS = [64, 128, 256, 512, 1024, 2048, 4096];
const REST = 1024;
const LENGTH_MS = 700;
const CHANGE_MS = 4200;

/** The scenes for what is shown; none where it cannot be modelled. */
export function scenesOf(now: Setting): Scene[] {
  const found = curveIn(now, "decode", link.value.batch);
  if (!isCurve(found)) return [];
  const own = now.machine || now.shape ? found.curve.switches : textual(now.loaded.run);
  const known = OFF.filter(([key, off]) => key in found.curve.switches && own[key] !== off);
  const off = { ...own, ...Object.fromEntries(known.map(([key, value]) => [key, value])) };
  const most = found.curves.lengths.at(-1) ?? 1;
  const lengths = LENGTHS.filter((length) => length <= most);
  const growing = lengths.map((length, index) => ({
    switches: off,
    length,
    words: `Everything is off. The text grows: ${inTokens(length)}. Watch attention.`,
    isChange: index === 0,
  }));
  const changes = known.map(([key, , words], index) => ({
    switches: {
      ...off,
      ...Object.fromEntries(known.slice(0, index + 1).map(([one]) => [one, own[one] ?? ""])),
    },
    length: Math.min(REST, most),
    words: `${key} on. ${words}`,
    isChange: true,
  }));
  return [...growing, ...changes];
}

let timer: ReturnType<typeof setTimeout> | undefined;
const still = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Play it from the beginning; where motion is unwanted, one scene a press. */
export function show(): void {
  const scenes = setting.value ? scenesOf(setting.value) : [];
  if (scenes.length === 0) return;
  forget();
  go({ view: "budget", phase: "decode", y: "ms" });
  draw({ scenes, at: 0 });
}

export function next(): void {
  const now = showing.value;
  if (!now) return;
  if (now.at + 1 < now.scenes.length) draw({ ...now, at: now.at + 1 });
  else stop();
}

/** What is drawn stays; the switches go back to what they were. */
export function stop(): void {
  clearTimeout(timer);
  showing.value = null;
  go({ set: "" });
}

function draw(now: Showing): void {
  const scene = now.scenes[now.at];
  const drawn = setting.value;
  if (!scene || !drawn) return;
  if (now.at > 0 && scene.isChange) remember();
  showing.value = now;
  go({ set: setOf(scene.switches, drawn), length: scene.length });
  clearTimeout(timer);
  if (!still()) timer = setTimeout(next, scene.isChange && now.at > 0 ? CHANGE_MS : LENGTH_MS);
}
