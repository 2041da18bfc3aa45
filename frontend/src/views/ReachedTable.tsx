// All points of the roofline as a table.

import type { JSX } from "preact";
import { KIND_WORDS, type Kind } from "../data/provenance";
import { scaled, threeDigits } from "../data/rates";
import type { Part } from "../data/stages";
import { tokens } from "../data/words";
import type { Reached } from "../data/reached";
import { Heads, Share, Time } from "../parts/cells";

interface Props {
  readonly reached: readonly Reached[];
  readonly parts: readonly Part[];
  readonly kind: Kind;
}

const HEADS = ["tokens", "stage", "FLOPs", "bytes", "FLOP per byte", "time", "FLOP/s", "B/s", "of the roof"];

export function ReachedTable({ reached, parts, kind }: Props): JSX.Element {
  return (
    <details class="whole">
      <summary>All points as a table</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label="All points">
        <table>
          <caption>{`Every stage at every length: time ${KIND_WORDS[kind]}, FLOPs and bytes counted`}</caption>
          <Heads texts={HEADS} />
          <tbody>
            {reached.map((point) => (
              <Row key={`${point.length} ${point.stage}`} point={point} parts={parts} />
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function Row({ point, parts }: { point: Reached; parts: readonly Part[] }): JSX.Element {
  const { length, stage, flops, bytes, intensity, time, rate, traffic, share } = point;
  return (
    <tr>
      <th scope="row">{tokens(length)}</th>
      <td>{parts.find(({ key }) => key === stage)?.label ?? stage}</td>
      <td>{flops > 0 ? scaled(flops, "") : "–"}</td>
      <td>{scaled(bytes, "")}</td>
      <td>{flops > 0 ? threeDigits(intensity) : "–"}</td>
      <Time figure={time} />
      <td data-kind={rate.kind}>{flops > 0 ? scaled(rate.value, "") : "–"}</td>
      <td data-kind={traffic.kind}>{scaled(traffic.value, "")}</td>
      <Share figure={share} />
    </tr>
  );
}
