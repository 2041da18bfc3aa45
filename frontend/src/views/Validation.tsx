// Whether the model can be believed: what it says beside what was measured, on cells that it never
// saw, with the goals that were set beforehand, met or not.

import type { JSX } from "preact";
import { saying } from "../api/client";
import type { Loaded } from "../data/budget";
import type { Calibration } from "../data/calibration";
import { KIND_WORD } from "../data/provenance";
import { day } from "../data/words";
import { residualsOf } from "../data/residuals";
import { KindTag } from "../parts/KindTag";
import { isFailed, isWaiting } from "../state/asked";
import { calibrations } from "../state/calibration";
import { deviceOf, runA, runB } from "../state/runs";
import { Bias } from "./Bias";
import { Coverage } from "./Coverage";
import { Errors } from "./Errors";
import { ScatterFigure } from "./ScatterFigure";

export function ValidationView(): JSX.Element {
  const [a, b] = [runA.value, runB.value];
  return (
    <section>
      <h2>How well the model predicts</h2>
      <p class="lead">
        The model counts what a step computes and moves, and a few numbers of this machine are fitted to two
        thirds of the cells of a run. Here it is judged by the other third, which the fit never saw.
      </p>
      {a ? <OneRun name={b ? "A" : ""} loaded={a} /> : <p class="empty">No run is shown yet.</p>}
      {b && <OneRun name="B" loaded={b} />}
    </section>
  );
}

function OneRun({ name, loaded }: { name: string; loaded: Loaded }): JSX.Element {
  const { model, environment } = loaded.run;
  const id = `validation-${name || "A"}`;
  return (
    <section class="validated" aria-labelledby={id}>
      <h3 id={id}>
        {name && `${name}: `}
        {`${model.name} on ${deviceOf(loaded.run)}, ${day(environment.date)}`}
      </h3>
      <Found loaded={loaded} />
    </section>
  );
}

function Found({ loaded }: { loaded: Loaded }): JSX.Element {
  const found = calibrations.of(loaded.run);
  if (found === null)
    return (
      <p class="empty small">
        This copy holds no calibration of the run, and there is no server to ask for one.
      </p>
    );
  if (isWaiting(found))
    return (
      <p class="empty small" role="status">
        Fitting the model to this run …
      </p>
    );
  if (!isFailed(found)) return <Judged loaded={loaded} calibration={found} />;
  return (
    <p class="empty small">
      This run has no calibration: {found.failed.replace(/\.?$/, ".")} What it measured is shown under{" "}
      <em>Budget</em>; nothing here is filled in by a model that was not checked.
    </p>
  );
}

interface Props {
  readonly loaded: Loaded;
  readonly calibration: Calibration;
}

function Judged({ loaded, calibration }: Props): JSX.Element {
  const { num_fitted: fitted, num_held_out: aside } = calibration.report;
  return (
    <>
      <p class="note">
        <KindTag kind="calibrated" more={`against ${KIND_WORD[loaded.kind]} times`} />{" "}
        {`· fitted to ${fitted} cells, judged by the other ${aside}`}
      </p>
      <div class="split judged">
        <div class="errors">
          <Errors loaded={loaded} calibration={calibration} />
          <Bias calibration={calibration} />
        </div>
        <Cells loaded={loaded} calibration={calibration} />
      </div>
    </>
  );
}

/** What needs the cells themselves, and with them the shape of the model that was measured. */
function Cells({ loaded, calibration }: Props): JSX.Element {
  try {
    const residuals = residualsOf(loaded, calibration);
    if (residuals.length === 0) return <p class="note">None of its stages is one that the model has.</p>;
    const held = residuals.filter(({ heldOut }) => heldOut);
    return (
      <div>
        <ScatterFigure loaded={loaded} calibration={calibration} residuals={residuals} />
        <Coverage held={held} calibration={calibration} />
      </div>
    );
  } catch (error) {
    return <p class="note">{`The cells cannot be modelled one by one: ${saying(error)}`}</p>;
  }
}
