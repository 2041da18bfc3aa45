// What the model says of a switch: how far S10, the length from which on attention has a tenth of the
// time, would move if the switch were off.

import type { JSX } from "preact";
import type { Kind } from "../data/provenance";
import { PHASES, type Phase } from "../data/runfile";
import { change, inTokens, short, tokens } from "../data/words";
import type { Crossing } from "../model/crossover";
import type { Effect } from "../model/switches";
import { KindTag } from "../parts/KindTag";
import { effectsShown, type PhaseEffects } from "../state/effects";
import { runA } from "../state/runs";

const NAMES: Record<Phase, string> = { decode: "decode step", prefill: "prefill" };

/** Whose numbers they are, and what they are worth. */
export function AboutEffects(): JSX.Element {
  const shown = effectsShown.value;
  const run = runA.value?.run;
  if ("waiting" in shown || !run)
    return (
      <p class="lead note">
        {run ? "The model is being fitted to the shown run …" : none("no run is shown")}
      </p>
    );
  if ("why" in shown) return <p class="lead note">{none(shown.why)}</p>;
  return (
    <p class="lead note">
      <strong>ΔS10</strong>: by how many tokens the length from which on attention has 10 % of the time moves
      when a switch is turned off, together with those that do not work without it. Up means that attention
      matters later. Modelled for run {short(run.id)} ({run.model.name} on {shown.machine}, batch{" "}
      {shown.batch}
      ), with the switches of that run{unknown(shown.phases)}. How far the model errs in such differences has
      not been measured. <KindTag kind={shown.kind} />
    </p>
  );
}

/** Phases that the fit knows nothing of. */
function unknown(known: readonly PhaseEffects[]): string {
  const missing = PHASES.filter((phase) => known.every((effects) => effects.phase !== phase));
  return missing.map((phase) => `, which has no ${NAMES[phase]} to fit to`).join("");
}

const none = (why: string): string => `What a switch does to the crossing is not modelled: ${why}.`;

/** Beside one switch; nothing where nothing is modelled. */
export function EffectOf({ name }: { name: string }): JSX.Element | null {
  const shown = effectsShown.value;
  if (!("phases" in shown)) return null;
  if (!shown.isModelled(name)) return <p class="effects note">ΔS10: not in the model</p>;
  if (shown.phases.every(({ found }) => !(name in found)))
    return <p class="effects note">ΔS10: off in this run already</p>;
  return (
    <dl class="effects">
      {shown.phases.map((phase) => (
        <Moved key={phase.phase} {...phase} name={name} kind={shown.kind} />
      ))}
    </dl>
  );
}

function Moved({ phase, here, found, name, kind }: PhaseEffects & { name: string; kind: Kind }): JSX.Element {
  const there = found[name];
  return (
    <div>
      <dt>ΔS10, {NAMES[phase]}</dt>
      <dd data-kind={kind}>{there && <Delta here={here} there={there} />}</dd>
    </div>
  );
}

function Delta({ here, there }: { here: Crossing; there: Effect }): JSX.Element {
  if (there.delta === 0 || (here.value === null && there.value === null))
    return (
      <>
        <strong>0</strong> <span class="note">{at(here)} either way</span>
      </>
    );
  return (
    <>
      {there.delta !== null && <strong>{change(there.delta)}</strong>}{" "}
      <span class="note">
        {at(here)} → {at(there)}
      </span>
    </>
  );
}

/** "at 13,189 tokens", "never up to 8,192 tokens". */
function at({ value, status }: Crossing): string {
  if (value !== null) return status === "found" ? tokens(value) : status;
  return status.replace(/\d+/, (digits) => inTokens(Number(digits)));
}
