// The moments on a native slider, under a picture of how full the pool was; and the moment in words.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Usage } from "../chart/Usage";
import { useWidth } from "../chart/useWidth";
import type { Scene } from "../data/scene";
import { inBlocks, momentName, sentencesOf, spokenOf } from "../data/told";
import { tokens } from "../data/words";
import { brief, follow, following, play, playing, show, span } from "../state/watching";
import { PAINTS, theme } from "../state/theme";

/** A slider's ends are half a thumb inside it; in the stylesheet too. */
const THUMB = 24;
/** Moments that PageUp and PageDown pass over. */
const PAGE = 10;
const SPEAK_MS = 300;

export function KvTimeline({ scene }: { scene: Scene }): JSX.Element | null {
  const [element, width] = useWidth<HTMLDivElement>();
  const now = span.value;
  if (!now) return null;
  const { first, last, at } = now;
  const marks = brief.value;
  const most = Math.max(...marks.map(({ used }) => used));
  const given = marks.filter(({ preempted }) => preempted).length;
  const keys = (event: KeyboardEvent): void => {
    const by = { PageDown: -PAGE, PageUp: PAGE }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    show(at + by);
  };
  return (
    <div class="timeline">
      <div ref={element}>
        <Usage
          marks={marks}
          at={at - first}
          width={width}
          margin={THUMB / 2}
          paint={PAINTS[theme.value]}
          summary={`Blocks in use over ${tokens(marks.length)} moments: at most ${tokens(most)}; ${tokens(given)} of them with a preemption.`}
        />
        <input
          type="range"
          class="cursor"
          aria-label="Moment"
          aria-valuetext={spokenOf(scene)}
          min={first}
          max={last}
          step="1"
          value={at}
          style={{ width: "100%" }}
          onInput={(event) => show(Number(event.currentTarget.value))}
          onKeyDown={keys}
        />
      </div>
      <div class="controls">
        <button type="button" aria-disabled={at <= first} onClick={() => show(at - 1)}>
          Step back
        </button>
        <button type="button" onClick={play}>
          {playing.value ? "Pause" : "Play"}
        </button>
        <button type="button" aria-disabled={at >= last} onClick={() => show(at + 1)}>
          Step forward
        </button>
        <label class="field check">
          <input
            type="checkbox"
            checked={following.value}
            onChange={(event) => (event.currentTarget.checked ? follow() : show(at))}
          />
          follow the newest
        </label>
        <span class="note">{`moment ${tokens(at)} of ${tokens(last)}`}</span>
        <span class="note">{`at most ${inBlocks(most)} in use${given > 0 ? "; ▼ a sequence gave way" : ""}`}</span>
      </div>
      <Told scene={scene} />
    </div>
  );
}

/** What happened, for eyes at once; for ears when somebody stays at a moment. */
function Told({ scene }: { scene: Scene }): JSX.Element {
  const [spoken, setSpoken] = useState("");
  const still = !following.value && !playing.value;
  const text = still ? spokenOf(scene) : "";
  useEffect(() => {
    const later = setTimeout(() => setSpoken(text), SPEAK_MS);
    return () => clearTimeout(later);
  }, [text]);
  return (
    <div class="told">
      <h3>{momentName(scene)}</h3>
      <ul>
        {sentencesOf(scene).map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
      <p class="hidden" role="status">
        {spoken}
      </p>
    </div>
  );
}
