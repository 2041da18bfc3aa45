// The button that plays the experiment, and what is said while it plays. Any key stops it.

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { next, show, showing, stop } from "../state/showing";
import { setting } from "../state/setting";

export function ShowMe(): JSX.Element | null {
  const now = showing.value;
  useEffect(() => {
    if (!now) return;
    const key = (event: KeyboardEvent): void => {
      if (event.key === "Escape") stop();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, [now !== null]);
  if (!setting.value) return null;
  if (!now)
    return (
      <button type="button" class="quiet show-me" onClick={show}>
        Show me
      </button>
    );
  const scene = now.scenes[now.at];
  return (
    <div class="showing" role="group" aria-label="Show me">
      <p aria-live="polite">{scene?.words}</p>
      <p class="note">
        {`${now.at + 1} of ${now.scenes.length}, all modelled; no engine changes. `}
        <button type="button" class="quiet" onClick={next}>
          Next
        </button>{" "}
        <button type="button" class="quiet" onClick={stop}>
          Stop (Esc)
        </button>
      </p>
    </div>
  );
}
