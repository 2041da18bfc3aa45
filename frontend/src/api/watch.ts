// The engine's events, and requests that give it something to do. Not in the first load.

import type { News } from "../data/news";
import { request } from "./client";
import { eventsOf } from "./events";

export interface Told {
  readonly id: string;
  readonly news: News;
}

/** What happens from now on; after `lastId` if that is still known. */
export async function* watchEvents(lastId: string, signal: AbortSignal): AsyncGenerator<Told> {
  const headers = lastId ? { "Last-Event-ID": lastId } : {};
  const { body } = await request("explorer/v1/events", undefined, signal, headers);
  let id = lastId;
  if (!body) return;
  for await (const news of eventsOf(body, (given) => (id = given))) yield { id, news: news as News };
}

/** `num` answers of so many tokens to a made-up prompt; what they say does not matter. */
export async function complete(
  model: string,
  prompt: readonly number[],
  num: number,
  maxTokens: number,
  signal: AbortSignal,
): Promise<void> {
  const body = { model, prompt, n: num, max_tokens: maxTokens, ignore_eos: true };
  await (await request("v1/completions", body, signal)).text();
}
