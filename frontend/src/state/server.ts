// What the server can do, and whether it can be reached.

import { computed, signal } from "@preact/signals";
import { apiKey, getCapabilities, keyWanted, saying } from "../api/client";
import type { Capabilities } from "../api/types";
import { listRuns } from "./runs";

export const capabilities = signal<Capabilities | null>(null);
export const trouble = signal("");
/** An exported file has no server behind it. */
export const offline = signal(false);
export const modelName = computed(() => capabilities.value?.model.name ?? "");

export async function connect(): Promise<void> {
  try {
    // Runs are fetched once there are capabilities, and are worth what the list says they are.
    const [known] = await Promise.all([getCapabilities(), listRuns()]);
    capabilities.value = known;
    trouble.value = "";
  } catch (error) {
    trouble.value = keyWanted.value ? "" : saying(error);
  }
}

export async function giveKey(key: string): Promise<void> {
  apiKey.value = key;
  keyWanted.value = false;
  await connect();
}
