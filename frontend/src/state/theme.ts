// Light or dark: what the system says, until the reader says otherwise.

import { computed, effect, signal } from "@preact/signals";

export type Theme = "light" | "dark";

const STORED = "pellucid.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
const chosen = signal<Theme | null>(stored());

export const theme = computed<Theme>(() => chosen.value ?? (systemDark.value ? "dark" : "light"));

export function toggleTheme(): void {
  chosen.value = theme.value === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(STORED, chosen.value);
  } catch {
    // Storage can be forbidden; then the choice lasts as long as the page.
  }
}

export function followTheme(): void {
  system.addEventListener("change", (event) => (systemDark.value = event.matches));
  effect(() => {
    if (chosen.value) document.documentElement.dataset.theme = chosen.value;
  });
}

function stored(): Theme | null {
  try {
    const value = localStorage.getItem(STORED);
    return value === "light" || value === "dark" ? value : null;
  } catch {
    return null;
  }
}

/** Colours of a drawing as values: an exported picture knows no stylesheet. */
export interface Paint {
  readonly ink: string;
  readonly quiet: string;
  readonly line: string;
  readonly surface: string;
}

export const PAINTS: Record<Theme, Paint> = {
  light: { ink: "#1c1e22", quiet: "#5c616b", line: "#d9dbe0", surface: "#ffffff" },
  dark: { ink: "#e9eaee", quiet: "#a3a8b3", line: "#363a43", surface: "#17191e" },
};
