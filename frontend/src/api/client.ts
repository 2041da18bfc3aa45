// Requests to the server that served the page, and to no other.

import { signal } from "@preact/signals";
import { eventsOf } from "./events";
import type {
  Capabilities,
  ChatChunk,
  Counts,
  Curves,
  CurvesBody,
  Known,
  MeasureEvent,
  MeasureSettings,
  RunAnswer,
  RunEntry,
  Switched,
} from "./types";
import type { Answer } from "../data/answers";
import type { Attention } from "../data/attention";

/** In memory only: a reload forgets it. */
export const apiKey = signal("");
export const keyWanted = signal(false);

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export const getCapabilities = (): Promise<Capabilities> => get("explorer/v1/capabilities");
export const getHealth = (): Promise<{ num_running: number; num_waiting: number }> => get("health");
export const getRuns = (): Promise<{ runs: RunEntry[] }> => get("explorer/v1/runs");
export const getRun = (id: string): Promise<RunAnswer> => get(`explorer/v1/runs/${encodeURIComponent(id)}`);

/** On the running engine; refused without any change if it cannot be had. */
export async function changeSwitch(key: string, value: string): Promise<Switched> {
  return (await (await request("explorer/v1/switches", { [key]: value })).json()) as Switched;
}

export async function answersFor(run: unknown): Promise<Answer[]> {
  const response = await request("explorer/v1/answers", { run });
  return ((await response.json()) as { answers: Answer[] }).answers;
}

/** A machine fitted to the run; refused if the run has too few cells. */
export async function calibrate(run: unknown): Promise<unknown> {
  return (await request("explorer/v1/calibrate", { run })).json();
}

/** What one head looks at in a text (`data/attention.ts`). */
export async function showAttention(body: object, signal: AbortSignal): Promise<Attention> {
  return (await (await request("explorer/v1/attention", body, signal)).json()) as Attention;
}

/** What the run's cells made its machine do. */
export async function countsOf(run: unknown): Promise<Counts> {
  return (await (await request("explorer/v1/counts", { run })).json()) as Counts;
}

/** Where the time would go, by the cost model. */
export async function curvesOf(body: CurvesBody): Promise<Curves> {
  return (await (await request("explorer/v1/curves", body)).json()) as Curves;
}

export const getKnown = (): Promise<Known> => get("explorer/v1/known");

export function measure(
  settings: Omit<MeasureSettings, "by_itself"> & MeasureWish,
  signal: AbortSignal,
): AsyncGenerator<MeasureEvent> {
  return stream<MeasureEvent>("explorer/v1/measure", settings, signal);
}

export interface MeasureWish {
  readonly force?: boolean;
  /** While nobody wants anything else of the engine. */
  readonly background?: boolean;
  /** Switches of a second setting, measured in turns with the engine's own. */
  readonly against?: Readonly<Record<string, string>>;
}

export interface Message {
  readonly role: "user" | "assistant";
  readonly content: string;
}

export function chat(
  model: string,
  messages: readonly Message[],
  maxTokens: number,
  signal: AbortSignal,
): AsyncGenerator<ChatChunk> {
  const options = { stream: true, stream_options: { include_usage: true } };
  return stream<ChatChunk>(
    "v1/chat/completions",
    { model, messages, max_tokens: maxTokens, ...options },
    signal,
  );
}

// The casts of this file are the border where the server's word is taken for the shape of its answers;
// run files, which people bring from elsewhere, are checked field by field instead.

async function get<T>(path: string): Promise<T> {
  return (await (await request(path)).json()) as T;
}

async function* stream<T>(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<T> {
  const response = await request(path, body, signal);
  if (!response.body) throw new ApiError(response.status, "The server's answer has no body.");
  for await (const event of eventsOf(response.body)) yield event as T;
}

export async function request(
  path: string,
  body?: unknown,
  signal?: AbortSignal,
  more: Readonly<Record<string, string>> = {},
): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json, text/event-stream", ...more };
  if (apiKey.value) headers.Authorization = `Bearer ${apiKey.value}`;
  const init: RequestInit = { headers, signal: signal ?? null };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(init, { method: "POST", body: JSON.stringify(body) });
  }
  const response = await fetch(new URL(path, document.baseURI), init);
  if (response.ok) return response;
  if (response.status === 401) keyWanted.value = true;
  throw new ApiError(response.status, await messageOf(response));
}

async function messageOf(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { error?: { message?: string } };
    if (body.error?.message) return body.error.message;
  } catch {
    // Not JSON: the status has to do.
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}

export const isAbort = (error: unknown): boolean =>
  error instanceof DOMException && error.name === "AbortError";

export const saying = (error: unknown): string => (error instanceof Error ? error.message : String(error));
