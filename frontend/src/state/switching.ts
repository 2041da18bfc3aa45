// Switches that change on the running engine: one change at a time, in the order of the wishes.

import { batch, signal } from "@preact/signals";
import { ApiError, changeSwitch, saying } from "../api/client";
import type { Switch, Switched } from "../api/types";
import { isEngaged } from "./measuring";
import { capabilities, connect } from "./server";

/** What was asked for and is not so yet, by switch, oldest first. */
export const wishes = signal<ReadonlyMap<string, string>>(new Map());

export interface Became {
  readonly key: string;
  readonly value: string;
}

/** What the last change has come to. */
export type News =
  | ({ readonly state: "changing" } & Became)
  | ({ readonly state: "changed"; readonly seconds: number; readonly also: readonly Became[] } & Became)
  | { readonly state: "refused"; readonly key: string; readonly message: string };

export const news = signal<News | null>(null);

const MEASURING =
  "A measurement is running, and it measures the switches as they are: try again when it has ended, or cancel it.";
const resting = new Map<string, ReturnType<typeof setTimeout>>();
let working = false;

/** Have a switch changed, unless another value is wished for within `restMs`. */
export function wish(key: string, value: string, restMs = 0): void {
  const rest = new Map(wishes.value);
  rest.delete(key); // so that it goes to the end
  wishes.value = rest.set(key, value);
  clearTimeout(resting.get(key));
  const rested = (): void => {
    resting.delete(key);
    void work();
  };
  resting.set(key, setTimeout(rested, restMs));
}

async function work(): Promise<void> {
  if (working) return;
  working = true;
  for (let next = oldest(); next; next = oldest()) await change(...next);
  working = false;
}

const oldest = (): [string, string] | undefined => [...wishes.value].find(([key]) => !resting.has(key));

async function change(key: string, value: string): Promise<void> {
  if (currentOf(key) !== value) await ask(key, value);
  if (wishes.value.get(key) !== value) return; // something else is wished for by now
  const rest = new Map(wishes.value);
  rest.delete(key);
  wishes.value = rest;
}

async function ask(key: string, value: string): Promise<void> {
  // The server would refuse it too, but an engine that is measuring can take long to say so.
  if (isEngaged()) {
    news.value = { state: "refused", key, message: MEASURING };
    return;
  }
  news.value = { state: "changing", key, value };
  try {
    take(key, await changeSwitch(key, value));
  } catch (error) {
    news.value = { state: "refused", key, message: saying(error) };
    // A refusal has changed nothing; after any other failure only the server knows what holds.
    if (!(error instanceof ApiError && error.status < 500)) await connect();
  }
}

function take(key: string, { switches, engine, seconds }: Switched): void {
  const also = switches.filter((row) => row.key !== key && row.current !== currentOf(row.key)).map(became);
  const asked = switches.find((row) => row.key === key);
  const known = capabilities.value;
  batch(() => {
    if (known) capabilities.value = { ...known, switches, engine };
    if (asked) news.value = { state: "changed", ...became(asked), seconds, also };
  });
}

const became = ({ key, current }: Switch): Became => ({ key, value: current });
const currentOf = (key: string): string | undefined =>
  capabilities.value?.switches.find((row) => row.key === key)?.current;
