// The link and the address bar say the same, whichever of them changes.

import { effect, signal } from "@preact/signals";
import { decode, encode, type Link } from "./link";

export const link = signal<Link>(decode(location.hash));

/** Show something else. A change of view can be undone with the Back button, others cannot. */
export function go(change: Partial<Link>): void {
  const next = { ...link.value, ...change };
  if (next.view !== link.value.view) history.pushState(null, "", address(next));
  link.value = next;
}

export function followAddress(): void {
  effect(() => history.replaceState(null, "", address(link.value)));
  addEventListener("popstate", () => (link.value = decode(location.hash)));
}

function address(next: Link): string {
  return encode(next) || location.pathname + location.search;
}
