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
      {`Stages and wall time differ by ${percent(run.closure)} at most (other). `}
      {`Borders between stages change the wall time by ${percent(run.instrument_ratio - 1)}; shares are of the time without them. `}
      {run.interrupted && "The measurement was cut short. "}
      <ToValidation text="How well the model predicts this run" />
    </p>
  );
}
