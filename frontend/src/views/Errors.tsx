// The errors on the cells set aside, each with its goal if there is one, and what came of it.

import type { ComponentChildren, JSX } from "preact";
import { type Crossing, LEVELS } from "../data/answers";
import type { Loaded } from "../data/budget";
import type { Calibration, CrossoverRow } from "../data/calibration";
import { CROSSOVER_GOAL, farness, SHARE_GOAL_POINTS, STAGE_GOAL, verdict, type Verdict } from "../data/goals";
import { KIND_WORD } from "../data/provenance";
import { threeDigits, times } from "../data/rates";
import { percent, tokens } from "../data/words";
import { Heads } from "../parts/cells";

interface Props {
  readonly loaded: Loaded;
  readonly calibration: Calibration;
}

export function Errors({ loaded, calibration: { report } }: Props): JSX.Element {
  const { stage_error: stage, step_error: step, share_error_points: share } = report;
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label="Errors">
        <table>
          <caption>Errors on the cells set aside, as parts of what was measured</caption>
          <Heads texts={["error", "found", "goal"]} />
          <tbody>
            <Row
              name="time of a stage, median"
              goal={`≤ ${percent(STAGE_GOAL, 0)}`}
              verdict={verdict(stage.median, STAGE_GOAL)}
            >
              {percent(stage.median)}
            </Row>
            <Row name="nine in ten stages within">{percent(stage.p90)}</Row>
            <Row name="time of a whole step, median">{percent(step.median)}</Row>
            <Row name="the worst step">{percent(step.max)}</Row>
            <Row name="attention's share, median">{points(share.median)}</Row>
            <Row
              name="the worst share"
              goal={`≤ ${SHARE_GOAL_POINTS} points`}
              verdict={verdict(share.max, SHARE_GOAL_POINTS)}
            >
              {points(share.max)}
            </Row>
          </tbody>
        </table>
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Crossovers">
        <table>
          <caption>
            Tokens from which on attention has its share of the time. The measured length comes from all cells
            of the run.
          </caption>
          <Heads texts={["of", "modelled", KIND_WORD[loaded.kind], "ratio", "goal"]} />
          <tbody>
            {report.crossover.map((row) => (
              <Crossover key={`${row.phase} ${row.batch} ${row.level}`} row={row} kind={loaded.kind} />
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

const points = (value: number): string => `${threeDigits(value)} points`;

interface RowProps {
  readonly name: string;
  readonly goal?: string;
  readonly verdict?: Verdict;
  readonly children: ComponentChildren;
}

function Row({ name, goal, verdict: came, children }: RowProps): JSX.Element {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td data-kind="calibrated">{children}</td>
      <td>{came && <Came verdict={came} goal={goal ?? ""} />}</td>
    </tr>
  );
}

const Came = ({ verdict: came, goal }: { verdict: Verdict; goal: string }): JSX.Element => (
  <>
    <span class={came === "met" ? "verdict" : "verdict missed"}>{came}</span>
    <div class="note">{goal}</div>
  </>
);

function Crossover({ row, kind }: { row: CrossoverRow; kind: Loaded["kind"] }): JSX.Element {
  const { phase, batch, level, modelled, measured, ratio } = row;
  const share = LEVELS.find(({ key }) => key === level)?.share ?? NaN;
  return (
    <tr>
      <th scope="row">
        {`${percent(share, 0).replace(" ", "\u00a0")} of ${phase}`}
        {batch > 1 && `, batch ${batch}`}
      </th>
      <Length crossing={modelled} kind="calibrated" />
      <Length crossing={measured} kind={kind} />
      <td data-kind="calibrated">{ratio === null ? "–" : times(ratio)}</td>
      <td>
        {ratio === null ? (
          "not comparable"
        ) : (
          <Came verdict={verdict(farness(ratio), CROSSOVER_GOAL)} goal={`within ${CROSSOVER_GOAL} ×`} />
        )}
      </td>
    </tr>
  );
}

function Length({ crossing, kind }: { crossing: Crossing; kind: Crossing["kind"] }): JSX.Element {
  const { value, lo, hi, status } = crossing;
  const found = value !== null && !status.startsWith("already");
  return (
    <td data-kind={kind}>
      {found ? tokens(value) : status}
      {found && (
        <div class="note">
          {`${lo === null ? "beyond" : tokens(lo)} to ${hi === null ? "beyond" : tokens(hi)}`}
          {status !== "found" && <div>{status}</div>}
        </div>
      )}
    </td>
  );
}
