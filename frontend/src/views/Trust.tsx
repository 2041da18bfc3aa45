// What speaks for and against a run: how far the stages are from being the whole, and what looking
// at them cost.

import type { JSX } from "preact";
import { percent } from "../data/words";
import type { Side } from "../state/sides";
import { ToValidation } from "./ToValidation";

export function Trust({ side, alone }: { side: Side; alone: boolean }): JSX.Element {
  const { run } = side.loaded;
  return (
    <p class="note trust">
      {!alone && `Run ${side.name}. `}
      {`Stages and wall time differ by ${percent(run.closure)} at most. `}
      {`Looking at the stages changes the wall time by ${percent(run.instrument_ratio - 1)}; times are without that, shared out as they were with it. `}
      {run.interrupted && "The measurement was cut short. "}
      <ToValidation text="How well the model predicts this run" />
    </p>
  );
}
