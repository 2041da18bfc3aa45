// Where the time goes at each length: picture, cursor and table of the same figures.

import type { JSX } from "preact";
import { batchesOf, budgetOf, SCOPES, type Budget, type Loaded, type Scope } from "../data/budget";
import { requestOf } from "../data/request";
import { stopsOf } from "../data/stops";
import { inTokens } from "../data/words";
import { Choice } from "../parts/Choice";
import { TabPanel, Tabs } from "../parts/Tabs";
import { modelOf } from "../state/modelled";
import { go, link } from "../state/navigation";
import { runA, runB } from "../state/runs";
import { offline } from "../state/server";
import { answerOf } from "./Answer";
import { AtCursor } from "./AtCursor";
import { Charts, type Side } from "./Charts";
import { Levels } from "./Levels";
import { AboutModel, ModelSwitch } from "./Model";
import { Made, OutputField, Standing } from "./Request";
import { SaveAs } from "./Save";
import { Trust } from "./Trust";
import { WaterfallOf } from "./Waterfall";
import { WholeTable } from "./WholeTable";

const PHASE_NAMES: Record<Scope, string> = {
  decode: "Decode step",
  prefill: "Prefill",
  request: "Whole request",
};
const MEASURES = [
  { key: "share", text: "share" },
  { key: "ms", text: "time" },
] as const;
const DETAILS = [
  { key: "groups", text: "groups" },
  { key: "stages", text: "every stage" },
] as const;

export function BudgetView(): JSX.Element {
  const shown = runA.value;
  if (!shown) return <Nothing />;
  const { phase } = link.value;
  return (
    <>
      <div class="controls">
        <Tabs
          label="Phase"
          name="phase"
          tabs={tabsOf(shown)}
          chosen={phase}
          onChoose={(key) => go({ phase: key })}
        />
        <Choice legend="Show" name="y" choices={MEASURES} chosen={link.value.y} onChoose={(y) => go({ y })} />
        <Choice
          legend="Parts"
          name="detail"
          choices={DETAILS}
          chosen={link.value.detail}
          onChoose={(detail) => go({ detail })}
        />
        <Batches loaded={shown} />
        {phase === "request" && <OutputField />}
        <ModelSwitch />
      </div>
      <TabPanel name="phase" chosen={phase}>
        <Phase sides={sidesOf(shown, runB.value)} />
      </TabPanel>
    </>
  );
}

/** Requests only of runs that have both phases, unless the address asks for them. */
function tabsOf({ run }: Loaded): { key: Scope; text: string }[] {
  const { phase, batch } = link.value;
  const scopes = SCOPES.filter(
    (scope) => scope !== "request" || phase === scope || batchesOf(run, scope).includes(batch),
  );
  return scopes.map((key) => ({ key, text: PHASE_NAMES[key] }));
}

function Phase({ sides }: { sides: readonly Side[] }): JSX.Element {
  const [first] = sides;
  if (!first) return <Lacking />;
  return (
    <>
      {link.value.phase === "request" ? <Standing sides={sides} /> : <Levels sides={sides} />}
      <div class="split">
        <Charts sides={sides} />
        {sides.length > 1 && <WaterfallOf sides={sides} />}
        <AtCursor sides={sides} />
      </div>
      {link.value.phase === "request" && <Made />}
      <AboutModel sides={sides} />
      {sides.map((side) => (
        <Trust key={side.name} side={side} alone={sides.length === 1} />
      ))}
      <WholeTable sides={sides} />
      <SaveAs sides={sides} />
    </>
  );
}

function Lacking(): JSX.Element {
  const { phase, batch, output } = link.value;
  const run = runA.value?.run;
  if (phase === "request" && run && batchesOf(run, phase).includes(batch))
    return (
      <p class="empty">
        No measured prompt and {inTokens(output, "output")} fit within the decode steps that were measured.
        Fewer tokens may.
      </p>
    );
  return (
    <p class="empty">
      {phase === "request"
        ? `A whole request takes a prefill and decode steps, and this run does not hold both at batch ${batch}. `
        : `This run holds no ${phase} at batch ${batch}. `}
      {!offline.value && batch === 1 && (
        <>
          <em>Measure now</em> on this tab makes one that does.
        </>
      )}
    </p>
  );
}

function sidesOf(a: Loaded, b: Loaded | undefined): Side[] {
  return [sideOf("A", a), b && sideOf("B", b)].filter((side): side is Side => Boolean(side));
}

function sideOf(name: Side["name"], loaded: Loaded): Side | null {
  const { phase, batch, detail, output } = link.value;
  const budget: Budget | null =
    phase === "request" ? requestOf(loaded, batch, output, detail) : budgetOf(loaded, phase, batch, detail);
  const model = budget && modelOf(loaded, budget, detail);
  return budget && { name, loaded, budget, model, stops: stopsOf(budget, model), answer: answerOf(loaded) };
}

function Batches({ loaded }: { loaded: Loaded }): JSX.Element | null {
  const batches = batchesOf(loaded.run, link.value.phase);
  if (batches.length < 2) return null;
  const choices = batches.map((batch) => ({ key: String(batch), text: String(batch) }));
  return (
    <Choice
      legend="Batch"
      name="batch"
      choices={choices}
      chosen={String(link.value.batch)}
      onChoose={(batch) => go({ batch: Number(batch) })}
    />
  );
}

function Nothing(): JSX.Element {
  return (
    <div class="empty">
      <p>
        Nothing has been measured yet. <em>Measure now</em> runs the engine behind this page at a few lengths
        and shows where its time goes; or bring a run file under <em>Runs</em>.
      </p>
    </div>
  );
}
