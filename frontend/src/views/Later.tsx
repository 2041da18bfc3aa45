// Views that are not in the first load: they come right after it, in one script.

import { signal } from "@preact/signals";
import type { JSX } from "preact";

type Live = typeof import("./live");

const live = signal<Live | { readonly failed: true } | null>(null);

/** A page that outlived its server's update asks for a file that is no more. */
export async function loadLive(): Promise<void> {
  live.value = await import("./live").catch(() => ({ failed: true }) as const);
}

export const later = (name: keyof Live) =>
  function Later(): JSX.Element {
    const loaded = live.value;
    if (!loaded) return <p class="empty">Loading …</p>;
    if ("failed" in loaded)
      return (
        <p class="empty" role="alert">
          This part of the page could not be loaded. Load the page again.
        </p>
      );
    const View = loaded[name];
    return <View />;
  };
