// Whether the band holds what it promises.

import type { JSX } from "preact";
import type { Calibration } from "../data/calibration";
import { times } from "../data/rates";
import { percent } from "../data/words";
import { coverageOf, coverageOfOthers, type Coverage as Covered, type Residual } from "../data/residuals";

interface Props {
  readonly held: readonly Residual[];
  readonly calibration: Calibration;
}

export function Coverage({ held, calibration: { hardware } }: Props): JSX.Element {
  return (
    <p class="covered">
      The band goes from {times(hardware.fastest)} to {times(hardware.slowest)} what is modelled. Within it
      lie <Part covered={coverageOf(held)} /> stage times of the cells set aside; those cells made the band,
      so nine in ten of them are bound to. Judged by a band of the other cells alone, it is{" "}
      <Part covered={coverageOfOthers(held)} />.
    </p>
  );
}

function Part({ covered: { within, of } }: { covered: Covered }): JSX.Element {
  return (
    <strong class="number" data-kind="calibrated">
      {`${within} of ${of}`}
      {of > 0 && ` (${percent(within / of, 0)})`}
    </strong>
  );
}
