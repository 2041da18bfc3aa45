// Where the time goes at each length: picture, cursor and table of the same figures.

import type { JSX } from "preact";
import { batchesOf, budgetOf, type Budget, type Loaded } from "../data/budget";
import { PHASES } from "../data/runfile";
import { Choice } from "../parts/Choice";
import { TabPanel, Tabs } from "../parts/Tabs";
import { go, link } from "../state/navigation";
import { runA, runB } from "../state/runs";
import { offline } from "../state/server";
import { answerOf } from "./Answer";
import { AtCursor } from "./AtCursor";
import { Charts, type Side } from "./Charts";
import { Levels } from "./Levels";
import { SaveAs } from "./Save";
import { Trust } from "./Trust";
import { WholeTable } from "./WholeTable";

const PHASE_TABS = PHASES.map((key) => ({ key, text: { decode: "Decode step", prefill: "Prefill" }[key] }));
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
          tabs={PHASE_TABS}
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
      </div>
      <TabPanel name="phase" chosen={phase}>
        <Phase sides={sidesOf(shown, runB.value)} />
      </TabPanel>
    </>
  );
}

function Phase({ sides }: { sides: readonly Side[] }): JSX.Element {
  const [first] = sides;
  if (!first) return <Lacking />;
  return (
    <>
      <Levels sides={sides} />
      <div class="split">
        <Charts sides={sides} />
        <AtCursor sides={sides} />
      </div>
      {sides.map((side) => (
        <Trust key={side.name} side={side} alone={sides.length === 1} />
      ))}
      <WholeTable sides={sides} />
      <SaveAs sides={sides} />
    </>
  );
}

function Lacking(): JSX.Element {
  const { phase, batch } = link.value;
  return (
    <p class="empty">
      This run holds no {phase} at batch {batch}.{" "}
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
  const { phase, batch, detail } = link.value;
  const budget: Budget | null = budgetOf(loaded, phase, batch, detail);
  return budget && { name, loaded, budget, answer: answerOf(loaded) };
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
