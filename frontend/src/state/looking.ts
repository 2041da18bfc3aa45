// The text that is looked into, and what the engine's process has shown of it. One question at a
// time: a new one takes the place of the one before, whose answer is not waited for.

import { computed, effect, signal } from "@preact/signals";
import { isAbort, saying, showAttention } from "../api/client";
import { clamp, type Attention, type Thumbnails } from "../data/attention";
import { BRIEF } from "./link";
import { go, link } from "./navigation";
import { capabilities } from "./server";

export const DEFAULT_TEXT =
  "When Mary and John went to the shop, John gave a drink to Mary because she was thirsty.";
const PAUSE_MS = 120;

/** What was asked for last; in this page only, but for a short text, which the address holds. */
const typed = signal<string | null>(null);
export const text = computed(() => typed.value ?? (link.value.text || DEFAULT_TEXT));

export const view = signal<Attention | null>(null);
export const small = signal<(Thumbnails & { readonly text: string }) | null>(null);
export const looking = signal(false);
export const lookTrouble = signal("");

/** Another text, from its last token on. */
export function lookInto(next: string): void {
  const brief = next.length <= BRIEF;
  typed.value = brief ? null : next;
  go({ text: brief && next !== DEFAULT_TEXT ? next : "", query: 0, step: 0 });
}

const numberOf = (name: string): number => Number(capabilities.value?.model.spec[name] ?? 1);
export const numLayers = computed(() => numberOf("num_layers"));
export const numHeads = computed(() => numberOf("num_heads"));
/** Which head the address means, on this model. */
export const layer = computed(() => clamp(link.value.layer, 0, numLayers.value - 1));
export const head = computed(() => clamp(link.value.head, 0, numHeads.value - 1));

/** The token whose row is looked at: 1 and up in the address, 0 there is the last. */
export const queryOf = (view: Attention, query: number): number =>
  clamp(query === 0 ? view.num_tokens - 1 : query - 1, 0, view.num_tokens - 1);

/** All that an answer depends on. */
const wish = computed(() => {
  const { view: shown, query, tile } = link.value;
  if (!capabilities.value || (shown !== "attention" && shown !== "flash")) return null;
  const flash = shown === "flash";
  return JSON.stringify({
    text: text.value,
    layer: layer.value,
    head: head.value,
    ...(flash && { tiles: true, row: query === 0 ? null : query - 1, block_m: tile, block_n: tile }),
    backend: capabilities.value.switches.map(({ current }) => current).join(),
  });
});

let controller = new AbortController();
let answered = "";
let timer: ReturnType<typeof setTimeout> | undefined;

/** Ask whenever something else is wanted; called once, when the views have come. */
export function followLooks(): void {
  effect(() => {
    const wanted = wish.value;
    controller.abort();
    clearTimeout(timer);
    looking.value = false;
    if (wanted === null || wanted === answered) return;
    timer = setTimeout(() => void ask(wanted), view.peek() ? PAUSE_MS : 0);
  });
}

async function ask(wanted: string): Promise<void> {
  const { backend: _, ...body } = JSON.parse(wanted) as { backend: string; text: string };
  controller = new AbortController();
  looking.value = true;
  try {
    const thumbnails = small.peek()?.text !== body.text;
    const found = await showAttention({ ...body, thumbnails }, controller.signal);
    lookTrouble.value = "";
    if (found.thumbnails) small.value = { ...found.thumbnails, text: body.text };
    view.value = found;
    answered = wanted;
  } catch (error) {
    if (isAbort(error)) return;
    lookTrouble.value = saying(error);
  }
  looking.value = false;
}
