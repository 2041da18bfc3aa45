// A moment of the KV cache in words.

import type { Departure, Happening, Obstacle } from "./news";
import type { Scene } from "./scene";
import { inTokens, tokens } from "./words";

export const WAITING: Record<Obstacle, string> = {
  blocks: "no block is free",
  rows: "no row is free: as many sequences run as max_seqs allows",
  batch: "its batch is filling, or the one before it has not ended",
  sibling: "its sibling is computing their prompt",
};

const LEAVING: Record<Departure, string> = {
  finished: "has ended",
  aborted: "was aborted",
  failed: "failed",
  preempted: "gave way, since no block was free",
  restarted: "starts over",
};

/** "1 block", "5 blocks". */
export const inBlocks = (count: number): string => `${tokens(count)} ${count === 1 ? "block" : "blocks"}`;

/** "3", "3 and 5", "1, 2, 3 and 4 more". */
export function named(numbers: readonly number[], most = 6): string {
  const few = numbers.length <= most ? numbers.slice(0, -1) : numbers.slice(0, most - 1);
  const last = numbers.length <= most ? String(numbers.at(-1)) : `${numbers.length - few.length} more`;
  return few.length > 0 ? `${few.join(", ")} and ${last}` : last;
}

/** What a step is called: events without rows lie between two steps. */
export function momentName({ event, step }: Scene): string {
  if (!event) return step === 0 ? "Before the first step" : `The state after step ${tokens(step)}`;
  return event.happened.some(({ type }) => type === "planned")
    ? `Step ${tokens(step)}`
    : `After step ${tokens(step)}`;
}

/** Everything of note, a sentence each, in the order of happening. */
export function sentencesOf(scene: Scene): string[] {
  const { event } = scene;
  if (!event)
    return [
      `${count(scene.sequences.length, "sequence")} ${scene.sequences.length === 1 ? "is" : "are"} here, with ${inBlocks(scene.numUsed)} of ${tokens(scene.numBlocks)}.`,
    ];
  const told = [
    ...queued(event.happened),
    ...event.happened.flatMap((one) => admittedOrGone(one, scene)),
    ...computed(scene),
    ...event.waits.map(({ sequence, why }) => `Sequence ${sequence} waits: ${WAITING[why]}.`),
  ];
  return told.length > 0 ? told : ["Nothing changes."];
}

/** All of it in one line, for a slider to say. */
export const spokenOf = (scene: Scene): string =>
  `${momentName(scene)}: ${sentencesOf(scene)
    .map((sentence) => sentence.charAt(0).toLowerCase() + sentence.slice(1).replace(/\.$/, ""))
    .join("; ")}`;

const count = (number: number, what: string): string => `${tokens(number)} ${what}${number === 1 ? "" : "s"}`;

function queued(happened: readonly Happening[]): string[] {
  const fresh = happened.filter((one) => one.type === "queued");
  if (fresh.length === 0) return [];
  const names = named(fresh.map(({ sequence }) => sequence));
  const lengths = [...new Set(fresh.map(({ num_tokens }) => num_tokens))].sort((a, b) => a - b);
  const [least, most] = [lengths[0] ?? 0, lengths.at(-1) ?? 0];
  const prompts = least === most ? inTokens(least) : `${tokens(least)} to ${inTokens(most)}`;
  return fresh.length === 1
    ? [`Sequence ${names} comes with a prompt of ${prompts}.`]
    : [`Sequences ${names} come with prompts of ${prompts}.`];
}

function admittedOrGone(one: Happening, scene: Scene): string[] {
  if (one.type === "admitted") {
    const { sequence, shared, refs } = one;
    if (shared.length === 0) return [`Sequence ${sequence} joins.`];
    const holders = Math.max(...refs);
    return [
      `Sequence ${sequence} joins and shares ${inBlocks(shared.length)}, held by ${tokens(holders)} now: ${inTokens(one.num_computed)} need not be computed.`,
    ];
  }
  if (one.type !== "left") return [];
  const { sequence, why, blocks } = one;
  if (why === "preempted")
    return [
      `Sequence ${sequence} gave its ${inBlocks(blocks.length)} back, since none was free; it waits in front and computes its tokens again later.`,
    ];
  const kept = blocks.filter((block) => scene.blocks.get(block)?.change !== "freed").length;
  const others = kept > 0 ? ` (${tokens(kept)} of them in other hands)` : "";
  const gives = blocks.length > 0 ? ` and gives its ${inBlocks(blocks.length)} back${others}` : "";
  return [`Sequence ${sequence} ${LEAVING[why]}${gives}.`];
}

function computed({ rows, computed: total, fresh, blocks, event }: Scene): string[] {
  const happened = event?.happened ?? [];
  const chosen = happened.reduce((sum, one) => sum + (one.type === "landed" ? one.num_tokens : 0), 0);
  const forgot = happened.filter(({ type }) => type === "forgot").length;
  const taken = [...blocks.values()].filter(({ change }) => change === "taken").length;
  const again = total - fresh;
  const told: string[] = [];
  if (rows.length > 0) {
    const what = again > 0 ? `, ${tokens(again)} of them again` : "";
    const where = taken > 0 ? `; ${inBlocks(taken)} ${taken === 1 ? "is" : "are"} taken for them` : "";
    told.push(`${inTokens(total)} of ${count(rows.length, "sequence")} computed${what}${where}.`);
  }
  if (chosen > 0) told.push(`${inTokens(chosen, "new")} chosen.`);
  if (forgot > 0)
    told.push(
      `${count(forgot, "sequence")} ${forgot === 1 ? "forgets" : "forget"} what was stored (kv_cache off).`,
    );
  return told;
}

/** Numbers in a row written short: [1, 2, 3, 7] → "1–3, 7". */
export function ranges(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const number of numbers) {
    const last = parts.at(-1);
    if (last && last[1] + 1 === number) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}

/** Bytes as people read them: "24.2 GB". */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, count > 0 ? Math.floor(Math.log10(count) / 3) : 0);
  const value = count / 1000 ** power;
  return `${value >= 100 || power === 0 ? value.toFixed(0) : value.toPrecision(3)} ${units[power]}`;
}
