// A conversation with the engine, and how fast the last answer came.

import { signal } from "@preact/signals";
import { chat, isAbort, saying, type Message } from "../api/client";
import type { ChatChunk } from "../api/types";
import { modelName } from "./server";

const MAX_TOKENS = 512;
const WINDOW_MS = 1000;
/** Pieces that a speed is taken from in any case, however slowly they come. */
const LEAST = 5;
const TICK_MS = 250;

/** Times in milliseconds since the page was opened, as `performance.now()` gives them. */
export interface Pace {
  readonly sent: number;
  readonly first: number | null;
  readonly last: number;
  /** When the pieces of about the last second came. */
  readonly recent: readonly number[];
  /** Pieces of text while it streams, about one a token; the server's own count at the end. */
  readonly count: number;
  readonly exact: boolean;
}

export const messages = signal<readonly Message[]>([]);
export const pace = signal<Pace | null>(null);
export const talking = signal(false);
export const talkTrouble = signal("");
/** The time, as often as a moving speed needs it; stands still while nothing is being said. */
export const clock = signal(0);
let controller = new AbortController();

/** Milliseconds to the first token; null before it is there. */
export const firstToken = (p: Pace): number | null => (p.first === null ? null : p.first - p.sent);

/** Tokens a second after the first one; null before there are two. */
export function rate(p: Pace): number | null {
  if (p.first === null || p.count < 2 || p.last <= p.first) return null;
  return ((p.count - 1) / (p.last - p.first)) * 1000;
}

/** Tokens a second lately: it follows a change of the engine, and falls while nothing comes. */
export function rateNow({ recent, last }: Pace, now: number): number | null {
  const start = recent[0];
  if (start === undefined || last <= start) return null;
  const gaps = recent.length - 1;
  const gap = (last - start) / gaps;
  // Silence counts once it is longer than a token usually takes.
  const end = now - last > 2 * gap ? now : last;
  return (gaps / (end - start)) * 1000;
}

export async function say(text: string): Promise<void> {
  if (talking.value) return;
  const asked: readonly Message[] = [...messages.value, { role: "user", content: text }];
  messages.value = [...asked, { role: "assistant", content: "" }];
  pace.value = { sent: performance.now(), first: null, last: 0, recent: [], count: 0, exact: false };
  talkTrouble.value = "";
  talking.value = true;
  const ticking = setInterval(() => (clock.value = performance.now()), TICK_MS);
  controller = new AbortController();
  try {
    for await (const chunk of chat(modelName.value, asked, MAX_TOKENS, controller.signal)) hear(chunk);
  } catch (error) {
    if (!isAbort(error)) talkTrouble.value = saying(error);
  } finally {
    clearInterval(ticking);
    talking.value = false;
    if (!messages.value.at(-1)?.content) messages.value = messages.value.slice(0, -1);
  }
}

export function hush(): void {
  controller.abort();
}

export function forget(): void {
  hush();
  messages.value = [];
  pace.value = null;
  talkTrouble.value = "";
}

function hear(chunk: ChatChunk): void {
  if (chunk.error) throw new Error(chunk.error.message);
  const piece = chunk.choices[0]?.delta?.content ?? "";
  if (piece) add(piece, performance.now());
  if (chunk.usage && pace.value)
    pace.value = { ...pace.value, count: chunk.usage.completion_tokens, exact: true };
}

function add(piece: string, now: number): void {
  const answer = messages.value.at(-1);
  if (!answer || !pace.value) return;
  messages.value = [...messages.value.slice(0, -1), { ...answer, content: answer.content + piece }];
  const { first, recent, count } = pace.value;
  pace.value = {
    ...pace.value,
    first: first ?? now,
    last: now,
    recent: lately([...recent, now]),
    count: count + 1,
  };
}

/** Without those that are too old, but for the last few. */
const lately = (times: readonly number[]): readonly number[] =>
  times.filter((time, index) => time > (times.at(-1) ?? 0) - WINDOW_MS || index >= times.length - LEAST);
