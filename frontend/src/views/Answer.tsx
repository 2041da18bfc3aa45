// The first thing to read: one sentence with the number that the page is about.

import type { JSX } from "preact";
import type { Crossing } from "../data/answers";
import { nearest, SCOPE_WORDS, type Column, type Loaded } from "../data/budget";
import { difference } from "../data/curves";
import { day, duration, inTokens, short } from "../data/words";
import { times } from "../data/rates";
import { KindTag } from "../parts/KindTag";
import { before } from "../state/before";
import { link } from "../state/navigation";
import { deviceOf, idA, runA, runB, troubles } from "../state/runs";
import { modelName, offline } from "../state/server";
import { setting } from "../state/setting";
import { isSide, pairOf, sideOf, type Side } from "../state/sides";

export function Answer(): JSX.Element {
  const shown = runA.value;
  const [now, then] = [setting.value, before.value];
  const found = now && sideOf("A", now);
  const side = isSide(found) ? found : null;
  const pair = then && now && !runB.value ? pairOf(then, now) : null;
  return (
    <div class="answer">
      <h1 aria-live="polite">{glued(side?.answer?.sentence ?? unanswered(shown))}</h1>
      {pair && (
        <p class="compared" aria-live="polite">
          {glued(compared(...pair))}
        </p>
      )}
      <p class="note what">
        OptimizationExplorer: where the time of each token goes inside this engine, as the text grows and as
        optimizations are switched. Attention is the part that looks back at all tokens before.
      </p>
      {shown && (
        <p class="note">{side && !side.isMeasured ? modelled(side) : measured(side?.loaded ?? shown)}</p>
      )}
    </div>
  );
}

const measured = (loaded: Loaded): JSX.Element => <KindTag kind={loaded.kind} more={origin(loaded)} />;

function modelled({ budget, loaded }: Side): JSX.Element {
  const { machine, shape } = setting.value ?? { machine: "", shape: "" };
  const from = machine && shape ? "" : `from ${origin(loaded)}`;
  return <KindTag kind={budget.kind} more={[budget.how, from].filter(Boolean).join(" · ")} />;
}

/** What the last choice did: to the length from which on attention matters, and to the time. Of
 * another machine or model the picture says the name, and its switches are no choice. */
function compared(then: Side, now: Side): string {
  const moved =
    before.value?.machine !== setting.value?.machine || before.value?.shape !== setting.value?.shape;
  const was = moved ? "" : difference(now.switches, then.switches);
  const is = moved ? "" : difference(then.switches, now.switches);
  const column = ({ budget }: Side): Column | undefined =>
    budget.columns[nearest(budget.columns, link.value.length)];
  const [one, two] = [column(then)?.wall.value ?? 0, column(now)?.wall.value ?? 0];
  const many = one > two ? `${times(one / two)} as fast` : `${times(two / one)} as long`;
  const crossings =
    then.answer && now.answer
      ? `10 % ${at(now.answer.s10)} with ${is || "this"}, ${at(then.answer.s10)} with ${was || "what was before"}. `
      : "";
  return `${crossings}${upper(SCOPE_WORDS[now.budget.phase])} of ${inTokens(column(now)?.length ?? 0)} takes ${duration(two)} instead of ${duration(one)}: ${many}.`;
}

/** "at 171 tokens", "already at 1 token", "never up to 8,192 tokens". */
function at({ value, status }: Crossing): string {
  if (value === null) return `never up to ${inTokens(Number(/\d+/.exec(status)?.[0] ?? 0))}`;
  return `${status.startsWith("already") ? "already " : ""}at ${inTokens(value)}`;
}

const upper = (text: string): string => text.replace(/^./, (letter) => letter.toUpperCase());

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
