import type { JSX } from "preact";
import { deviceOf, runA } from "../state/runs";
import { capabilities, offline } from "../state/server";
import { theme, toggleTheme } from "../state/theme";

export function Header(): JSX.Element {
  return (
    <header class="top">
      <p class="brand">
        <svg width="20" height="20" viewBox="0 0 32 32" aria-hidden="true">
          <path d="M3 27C13 27 20 21 29 5V27Z" fill="#c5573c" />
          <path
            d="M3 22C12 21 20 14 29 5"
            fill="none"
            stroke="#5f809f"
            stroke-width="3"
            stroke-linecap="round"
          />
        </svg>
        pellucid
      </p>
      <p class="where">{whereabouts()}</p>
      <button type="button" class="quiet" onClick={toggleTheme}>
        {theme.value === "dark" ? "Light" : "Dark"} page
      </button>
    </header>
  );
}

function whereabouts(): string {
  const run = runA.value?.run;
  if (offline.value)
    return run ? `${run.model.name} · ${deviceOf(run)} · a saved copy, no server behind it` : "";
  const known = capabilities.value;
  return known ? [known.model.name, known.device, known.engine.dtype].join(" · ") : "";
}
