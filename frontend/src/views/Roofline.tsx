// How near each stage comes to what the machine can do, and what holds it back.

import type { JSX } from "preact";
import type { Counts } from "../api/types";
import { batchesOf, type Loaded } from "../data/budget";
import { KIND_WORDS } from "../data/provenance";
import { PHASES, type Phase } from "../data/runfile";
import { partsOf, type Part } from "../data/stages";
import { reachedBy, type Reached } from "../data/reached";
import type { Roof } from "../chart/RooflineChart";
import { Choice } from "../parts/Choice";
import { isFailed, isWaiting } from "../state/asked";
import { counts } from "../state/counts";
import { go, link } from "../state/navigation";
import { runA } from "../state/runs";
import { LengthRange } from "./LengthRange";
import { ReachedTable } from "./ReachedTable";
import { RooflineFigure } from "./RooflineFigure";
import { StageDetail } from "./StageDetail";

const PHASE_NAMES: Record<Phase, string> = { decode: "decode step", prefill: "prefill" };

export function RooflineView(): JSX.Element {
  const shown = runA.value;
  return (
    <section>
      <h2>Roofline</h2>
      <p class="lead">
        Times are measured; FLOPs and bytes are counted from the model's shape. Left of the ridge memory is
        what bounds a stage, right of it arithmetic.
      </p>
      {shown ? <Checked loaded={shown} /> : <p class="empty">No run is shown yet.</p>}
    </section>
  );
}

function Checked({ loaded }: { loaded: Loaded }): JSX.Element {
  const found = counts.of(loaded.run);
  if (isWaiting(found))
    return (
      <p class="empty small" role="status">
        Counting …
      </p>
    );
  if (isFailed(found))
    return (
      <p class="empty small">
        This run does not say enough about its model and machine to draw a roof: {found.failed}
      </p>
    );
  if (!found)
    return <p class="empty small">This copy holds no counts of the run, and there is no server to ask.</p>;
  return <OneRun loaded={loaded} counted={found} />;
}

function OneRun({ loaded, counted }: { loaded: Loaded; counted: Counts }): JSX.Element {
  const phases = PHASES.filter((key) => batchesOf(loaded.run, key).length > 0);
  const phase = phases.find((key) => key === link.value.phase) ?? phases[0] ?? "decode";
  const batches = batchesOf(loaded.run, phase);
  const batch = batches.find((count) => count === link.value.batch) ?? batches[0] ?? 1;
  const reached = reachedBy(loaded, counted, phase, batch);
  const lengths = [...new Set(reached.map(({ length }) => length))];
  const length = nearestTo(link.value.length, lengths);
  const points = reached.filter((point) => point.length === length);
  const parts = partsOf([...new Set(reached.map(({ stage }) => stage))], "stages").filter(({ key }) =>
    reached.some(({ stage }) => stage === key),
  );
  const chosen = points.find(({ stage }) => stage === link.value.stage) ?? points[0];
  const roofs = roofsOf(loaded, counted);
  if (!chosen) return <p class="empty small">No stage of this run is one that the model counts.</p>;
  return (
    <>
      <div class="controls">
        <Choice
          legend="Phase"
          name="roof-phase"
          choices={phases.map((key) => ({ key, text: PHASE_NAMES[key] }))}
          chosen={phase}
          onChoose={(key) => go({ phase: key })}
        />
        {batches.length > 1 && (
          <Choice
            legend="Batch"
            name="roof-batch"
            choices={batches.map((count) => ({ key: String(count), text: String(count) }))}
            chosen={String(batch)}
            onChoose={(count) => go({ batch: Number(count) })}
          />
        )}
        <LengthRange lengths={lengths} chosen={length} onChoose={(next) => go({ length: next })} />
      </div>
      <StageChoice parts={parts} chosen={chosen} />
      <div class="split roofline">
        <RooflineFigure
          loaded={loaded}
          reached={reached}
          parts={parts}
          roofs={roofs}
          length={length}
          chosen={chosen.stage}
          what={`${PHASE_NAMES[phase]}, batch ${batch}`}
        />
        <StageDetail
          loaded={loaded}
          counted={counted}
          point={chosen}
          label={parts.find(({ key }) => key === chosen.stage)?.label ?? chosen.stage}
          cell={{ phase, length, batch }}
        />
      </div>
      <ReachedTable reached={reached} parts={parts} kind={loaded.kind} />
    </>
  );
}

function StageChoice({ parts, chosen }: { parts: readonly Part[]; chosen: Reached }): JSX.Element {
  return (
    <div class="controls">
      <Choice
        legend="Stage"
        name="roof-stage"
        choices={parts.map(({ key, label }) => ({ key, text: label }))}
        chosen={chosen.stage}
        onChoose={(stage) => go({ stage })}
      />
    </div>
  );
}

/** What the machine reached in the same run, and what its maker says where that is known. */
function roofsOf(loaded: Loaded, { limits, sheet }: Counts): Roof[] {
  const measured: Roof = { name: KIND_WORDS[loaded.kind], limits, kind: loaded.kind };
  return sheet ? [{ name: "data sheet", limits: sheet, kind: "spec" }, measured] : [measured];
}

function nearestTo(wanted: number, lengths: readonly number[]): number {
  const far = (length: number): number => Math.abs(Math.log(length / wanted));
  return lengths.reduce((best, length) => (far(length) < far(best) ? length : best), lengths[0] ?? 1);
}
