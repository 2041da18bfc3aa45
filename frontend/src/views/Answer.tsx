// The first thing to read: one sentence with the number that the page is about.

import type { JSX } from "preact";
import type { Answer as Found } from "../data/answers";
import type { Loaded } from "../data/budget";
import { day, inTokens, short } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { link } from "../state/navigation";
import { deviceOf, idA, runA, troubles } from "../state/runs";
import { modelName, offline } from "../state/server";

export function answerOf(loaded: Loaded | undefined): Found | undefined {
  const { phase, batch } = link.value;
  return loaded?.answers.find((answer) => answer.phase === phase && answer.batch === batch);
}

export function Answer(): JSX.Element {
  const shown = runA.value;
  const answer = answerOf(shown);
  return (
    <div class="answer">
      <h1 aria-live="polite">{glued(answer?.sentence ?? unanswered(shown))}</h1>
      {shown && (
        <p class="note">
          <KindTag kind={shown.kind} more={origin(shown)} />
        </p>
      )}
    </div>
  );
}

/** A number stays on one line with its sign. */
const glued = (text: string): string => text.replaceAll(" %", "\u00a0%");

function unanswered(shown: Loaded | undefined): string {
  if (shown && link.value.phase === "request")
    return `Where the time of a whole request goes: its prompt, and ${inTokens(link.value.output, "output")}.`;
  if (shown) return "This run does not say from what length on attention matters here.";
  if (troubles.value.has(idA.value))
    return `Run ${short(idA.value)} cannot be shown: ${troubles.value.get(idA.value)}.`;
  if (offline.value) return "This file holds no run.";
  const model = modelName.value;
  return model
    ? `From what length on does attention matter in ${model}, here?`
    : "Where does each microsecond of a token go?";
}

function origin({ run }: Loaded): string {
  return `${run.model.name} on ${deviceOf(run)} · ${day(run.environment.date)} · commit ${run.environment.commit}`;
}
