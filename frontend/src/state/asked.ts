// What the server works out from a run, asked for once: when it is first looked at.

import { signal } from "@preact/signals";
import { ApiError, keyWanted, saying } from "../api/client";
import type { RunFile } from "../data/runfile";
import { offline } from "./server";

export interface Waiting {
  readonly waiting: true;
}

/** Why there is none: the words of the server, such as that the run has too few cells. */
export interface Failed {
  readonly failed: string;
}

export type Asked<T> = T | Waiting | Failed | null;

export const isFailed = (found: unknown): found is Failed =>
  typeof found === "object" && found !== null && "failed" in found;
export const isWaiting = (found: unknown): found is Waiting =>
  typeof found === "object" && found !== null && "waiting" in found;

/** Whether an answer is there, and what it says. */
export function known<T>(found: Asked<T>): found is T {
  return found !== null && !isFailed(found) && !isWaiting(found);
}

export class AskedOfRuns<T> {
  readonly #outcomes = signal<ReadonlyMap<string, T | Failed>>(new Map());
  readonly #underway = new Map<string, Promise<void>>();

  constructor(private readonly get: (run: RunFile) => Promise<T>) {}

  /**
   * The answer for a run; null where there is nobody to ask.
   *
   * May be called while drawing: whoever read it is drawn again when it comes.
   */
  of(run: RunFile): Asked<T> {
    const found = this.#outcomes.value.get(run.id);
    if (found) return found;
    if (offline.value) return null;
    // Behind the drawing, which must change nothing that is drawn. Without a key there is no use.
    if (!keyWanted.value) queueMicrotask(() => void this.#ask(run));
    return { waiting: true };
  }

  /** The same, waited for: what an exported page takes along. */
  async settled(run: RunFile): Promise<T | null> {
    if (!this.#outcomes.peek().has(run.id) && !offline.peek()) await this.#ask(run);
    const found = this.#outcomes.peek().get(run.id) ?? null;
    return known(found) ? found : null;
  }

  /** From a file or from the page's own data; it replaces what was known. */
  keep(run: string, outcome: T | Failed): void {
    this.#outcomes.value = new Map(this.#outcomes.value).set(run, outcome);
  }

  /** One request for each run, however often it is asked for. */
  #ask(run: RunFile): Promise<void> {
    if (this.#outcomes.peek().has(run.id)) return Promise.resolve();
    const asked = this.#underway.get(run.id) ?? this.#fetch(run).finally(() => this.#underway.delete(run.id));
    this.#underway.set(run.id, asked);
    return asked;
  }

  async #fetch(run: RunFile): Promise<void> {
    try {
      const found = await this.get(run);
      if (!this.#outcomes.peek().has(run.id)) this.keep(run.id, found);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return; // asked again when there is a key
      if (!this.#outcomes.peek().has(run.id)) this.keep(run.id, { failed: saying(error) });
    }
  }
}
