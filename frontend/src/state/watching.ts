// The recording of the KV cache that is shown: told by the engine while the view is open, or brought
// as a file. Moments go by faster than a page can be drawn, so it is told of them ten times a second.

import { computed, signal } from "@preact/signals";
import { isAbort, saying } from "../api/client";
import { complete, watchEvents } from "../api/watch";
import { parseEvents, type EventsFile, type News } from "../data/news";
import { Inconsistent } from "../data/owners";
import { Recording, type Mark } from "../data/recording";
import { sceneOf, type Scene } from "../data/scene";
import { go, link } from "./navigation";
import { capabilities, modelName } from "./server";

const DRAW_MS = 100;
const RETRY_MS = [500, 1000, 2000, 5000];
const PLAY_MS = 250;
/** Answers, tokens of the prompt and of the answer of the requests that the page sends itself. */
const EXAMPLE: readonly (readonly [number, number, number])[] = [
  [1, 21, 40],
  [1, 150, 90],
  [3, 70, 60],
  [1, 45, 140],
];
/** Between them, so that they do not come all at once. */
const APART_MS = 300;

/** Where the recording comes from: the engine, or a file of this name. */
export const source = signal<{ readonly file: string } | null>(null);
/** How it stands with the stream, in words; empty: all is well. */
export const streamNews = signal("");
export const isLive = signal(false);
export const playing = signal(false);
export const exampleTrouble = signal("");
export const exampleRuns = signal(false);

let recording = new Recording();
let about = { model: "", bytesPerToken: 0 };
const version = signal(0);
let lastId = "";
let controller: AbortController | null = null;

export interface Span {
  readonly first: number;
  readonly last: number;
  /** The one that is shown. */
  readonly at: number;
}

/** The moments that there are; null: none. */
export const span = computed<Span | null>(() => {
  void version.value;
  if (recording.isEmpty) return null;
  const { first, last } = recording;
  const { at } = link.value;
  return { first, last, at: at ? Math.min(Math.max(at, first), last) : last };
});

export const scene = computed<Scene | null>(() => {
  const at = span.value?.at;
  const moment = at === undefined ? null : recording.moment(at);
  return moment && sceneOf(moment);
});

/** Whether the newest moment is shown, whichever it is. */
export const following = computed(() => link.value.at === 0);

/** Of every moment, in brief. */
export const brief = computed<readonly Mark[]>(() => {
  void version.value;
  return recording.isEmpty ? [] : recording.brief();
});

export const everHeld = (): ReadonlySet<number> => recording.everHeld;

export const bytesPerToken = (): number =>
  source.value ? about.bytesPerToken : (capabilities.value?.model.kv_bytes_per_token ?? 0);

/** Show another moment; whoever goes there by hand stops what moves. */
export function show(at: number): void {
  playing.value = false;
  goTo(at);
}

export function follow(): void {
  playing.value = false;
  go({ at: 0 });
}

export function play(): void {
  if (playing.value) {
    playing.value = false;
    return;
  }
  const now = span.value;
  if (!now) return;
  if (now.at === now.last) goTo(now.first);
  else goTo(now.at); // no longer the newest, but this one
  playing.value = true;
  tick();
}

function goTo(at: number): void {
  const now = span.value;
  if (now) go({ at: Math.min(Math.max(at, now.first), now.last) });
}

function tick(): void {
  setTimeout(() => {
    const now = span.value;
    if (!playing.value || !now) return;
    if (now.at >= now.last) {
      playing.value = false;
      return;
    }
    goTo(now.at + 1);
    tick();
  }, PLAY_MS);
}

/** Have the engine tell; the view calls it when it appears, unless a file is shown. */
export function startWatching(): void {
  if (source.value || controller) return;
  controller = new AbortController();
  void watch(controller.signal);
}

export function stopWatching(): void {
  controller?.abort();
  controller = null;
  isLive.value = false;
  playing.value = false;
}

/** Back from a file to the engine. */
export function watchEngine(): void {
  source.value = null;
  begin();
  startWatching();
}

export function importEvents(name: string, text: string): void {
  const file = parseEvents(text);
  const made = new Recording();
  file.news.forEach((one) => made.add(one)); // throws if they do not fit each other
  stopWatching();
  recording = made;
  about = { model: file.model, bytesPerToken: file.kv_bytes_per_token };
  source.value = { file: name };
  streamNews.value = "";
  go({ at: 0 });
  version.value += 1;
}

export function exportEvents(): EventsFile {
  const model = source.value ? about.model : modelName.value;
  const news = recording.news();
  return { schema: 1, kind: "pellucid-events", model, kv_bytes_per_token: bytesPerToken(), news };
}

function begin(): void {
  recording = new Recording();
  lastId = "";
  version.value += 1;
}

async function watch(signal: AbortSignal): Promise<void> {
  for (let failures = 0; !signal.aborted; ) {
    try {
      for await (const { id, news } of watchEvents(lastId, signal)) {
        failures = 0;
        isLive.value = true;
        lastId = id;
        take(news);
        if (news.type === "ended") return;
      }
      streamNews.value = "The stream has ended; asking for it again …";
    } catch (error) {
      if (isAbort(error) || signal.aborted) return;
      // Events that do not fit what is known: begin with a state again.
      if (error instanceof Inconsistent) lastId = "";
      streamNews.value = `${saying(error)} Trying again …`;
    } finally {
      isLive.value = false;
    }
    const pause = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 0;
    failures += 1;
    await new Promise((later) => setTimeout(later, pause));
  }
}

function take(news: News): void {
  switch (news.type) {
    case "snapshot":
    case "step":
      recording.add(news);
      streamNews.value = "";
      draw();
      break;
    case "dropped":
      streamNews.value = `${news.news} events came too fast and are missing here.`;
      break;
    case "paused":
      streamNews.value = `Paused: ${news.reason}.`;
      break;
    case "restarting":
      streamNews.value = `The engine is started again: ${news.reason}.`;
      break;
    case "ended":
      isLive.value = false;
      streamNews.value = `The engine tells nothing any more: ${news.reason}.`;
  }
}

let drawing = false;

function draw(): void {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    version.value += 1;
  }, DRAW_MS);
}

/** Requests of different lengths, one of them with several answers, so that there is something to see. */
export async function sendExample(): Promise<void> {
  if (exampleRuns.value) return;
  exampleRuns.value = true;
  exampleTrouble.value = "";
  follow();
  const abort = new AbortController();
  try {
    await Promise.all(
      EXAMPLE.map(async ([answers, promptTokens, answerTokens], index) => {
        await new Promise((later) => setTimeout(later, index * APART_MS));
        const prompt = Array.from({ length: promptTokens }, (_, k) => 1 + ((k * 7 + index) % 90));
        await complete(modelName.value, prompt, answers, answerTokens, abort.signal);
      }),
    );
  } catch (error) {
    abort.abort();
    exampleTrouble.value = saying(error);
  } finally {
    exampleRuns.value = false;
  }
}
