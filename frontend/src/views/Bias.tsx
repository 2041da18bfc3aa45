// Which way the model errs, and where: the median of modelled / measured of each stage.

import type { JSX } from "preact";
import type { Calibration } from "../data/calibration";
import { offBy } from "../data/rates";
import { partsOf } from "../data/stages";

export function Bias({ calibration: { report } }: { calibration: Calibration }): JSX.Element {
  const phases = Object.keys(report.by_stage).sort();
  const stages = new Set(phases.flatMap((phase) => Object.keys(report.by_stage[phase] ?? {})));
  const parts = partsOf([...stages], "stages").filter(({ key }) => stages.has(key));
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Bias by stage">
      <table class="bias">
        <caption>
          Bias by stage, cells set aside: how much more (+) or less (−) is modelled than measured, median
        </caption>
        <thead>
          <tr>
            <th scope="col">stage</th>
            {phases.map((phase) => (
              <th key={phase} scope="col">
                {phase}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {parts.map(({ key, label }) => (
            <tr key={key}>
              <th scope="row">{label}</th>
              {phases.map((phase) => {
                const ratio = report.by_stage[phase]?.[key];
                return (
                  <td key={phase} data-kind="calibrated">
                    {ratio === undefined ? "–" : offBy(ratio)}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
