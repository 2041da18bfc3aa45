// Where the time goes at each length: picture, cursor and table of the same figures.

import type { JSX } from "preact";
import { batchesOf, SCOPES, type Loaded, type Scope } from "../data/budget";
import { PHASES } from "../data/runfile";
import { inTokens } from "../data/words";
import { Choice } from "../parts/Choice";
import { TabPanel, Tabs } from "../parts/Tabs";
import { before } from "../state/before";
import { go, link } from "../state/navigation";
import { runA, runB } from "../state/runs";
import { offline } from "../state/server";
import { setting } from "../state/setting";
import { AtCursor } from "./AtCursor";
import { Charts } from "./Charts";
import { Levels } from "./Levels";
import { AboutModel, AboutSetting, ModelSwitch } from "./Model";
import { Made, OutputField, Standing } from "./Request";
import { SaveAs } from "./Save";
import { ShowMe } from "./ShowMe";
import { isSide, measuredSide, pairOf, sideOf, type Lacking as Why, type Side } from "../state/sides";
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
        <ShowMe />
      </div>
      <TabPanel name="phase" chosen={phase}>
        <Phase {...pictured()} />
      </TabPanel>
    </>
  );
}

/** Requests only of runs that have both phases, unless the address asks for them. */
function tabsOf({ run }: Loaded): { key: Scope; text: string }[] {
  const { phase, machine } = link.value;
  const both = PHASES.every((one) => run.cells.some((cell) => cell.phase === one));
  const scopes = SCOPES.filter((scope) => scope !== "request" || phase === scope || both || machine);
  return scopes.map((key) => ({ key, text: PHASE_NAMES[key] }));
}

interface Pictured {
  readonly sides: readonly Side[];
  /** What was there before the last choice. */
  readonly ghost: Side | null;
  /** Two whose difference is shown: A and B, or what was before and what is now; or none. */
  readonly pair: readonly Side[];
  readonly why: Why | null;
}

/** The setting, beside another run if one is to be compared. */
function pictured(): Pictured {
  const now = setting.value;
  const first = now && sideOf("A", now);
  const other = runB.value ? measuredSide("B", runB.value) : null;
  const sides = [isSide(first) ? first : null, other].filter((side) => side !== null);
  const then = other ? null : before.value;
  const ghost = then && sideOf("A", then);
  const pair = sides.length > 1 ? sides : (now && then && pairOf(then, now)) || [];
  return { sides, ghost: isSide(ghost) ? ghost : null, pair, why: first && !isSide(first) ? first : null };
}

function Phase({ sides, ghost, pair, why }: Pictured): JSX.Element {
  const [first] = sides;
  if (!first)
    return why ? (
      <p class="empty" role="status">
        {why.lacking}
      </p>
    ) : (
      <Lacking />
    );
  return (
    <>
      {link.value.phase === "request" && !first.answer ? (
        <Standing sides={sides} />
      ) : (
        <Levels sides={sides} />
      )}
      <div class="split">
        <Charts sides={sides} ghost={ghost} />
        {pair.length > 1 && <WaterfallOf sides={pair} names={ghost ? ["before", "now"] : ["A", "B"]} />}
        <AtCursor sides={sides} />
      </div>
      {link.value.phase === "request" && first.isMeasured && <Made />}
      <AboutModel sides={sides} />
      {sides.map((side) =>
        side.isMeasured ? (
          <Trust key={side.name} side={side} alone={sides.length === 1} />
        ) : (
          <AboutSetting key={side.name} side={side} />
        ),
      )}
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
