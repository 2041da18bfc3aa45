// The same as the picture, as tables: sequences, one of which may stand out, and blocks.

import type { JSX } from "preact";
import { colorOf } from "../chart/PoolChart";
import type { Scene } from "../data/scene";
import type { Sequence } from "../data/owners";
import { momentName, ranges, WAITING } from "../data/told";
import { tokens } from "../data/words";
import { Heads } from "../parts/cells";
import { go, link } from "../state/navigation";

const HEADS = [
  "show",
  "sequence",
  "request",
  "tokens",
  "stored",
  "computed now",
  "blocks",
  "their numbers",
  "state",
];

export function KvTable({ scene }: { scene: Scene }): JSX.Element {
  const sequences = [...scene.sequences].sort((a, b) => a.sequence - b.sequence);
  const { sequence: chosen } = link.value;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Sequences">
      <table class="sequences">
        <caption>{`Sequences: ${momentName(scene).toLowerCase()}`}</caption>
        <Heads texts={HEADS} />
        <tbody>
          {sequences.map((each) => (
            <Row key={each.sequence} scene={scene} sequence={each} chosen={chosen} />
          ))}
          <tr>
            <td>
              <input
                type="radio"
                name="sequence"
                aria-label="Show all alike"
                checked={!sequences.some(({ sequence }) => sequence === chosen)}
                onChange={() => go({ sequence: 0 })}
              />
            </td>
            <td colSpan={HEADS.length - 1} class="note">
              {sequences.length > 0 ? "all alike" : "no sequence is here"}
            </td>
          </tr>
        </tbody>
      </table>
    </div>
  );
}

interface RowProps {
  readonly scene: Scene;
  readonly sequence: Sequence;
  readonly chosen: number;
}

function Row({ scene, sequence: each, chosen }: RowProps): JSX.Element {
  const { sequence, request, index, num_tokens, blocks } = each;
  const row = scene.rows.find((found) => found.sequence === sequence);
  return (
    <tr data-sequence={sequence}>
      <td>
        <input
          type="radio"
          name="sequence"
          aria-label={`Show sequence ${sequence}`}
          checked={sequence === chosen}
          onChange={() => go({ sequence })}
        />
      </td>
      <th scope="row">
        <svg class="swatch" width="12" height="12" aria-hidden="true">
          <rect width="12" height="12" rx="2" fill={colorOf(sequence)} />
        </svg>{" "}
        {sequence}
      </th>
      <td>
        <code title={request}>{request.slice(0, 8)}</code>
        {index > 0 && ` · ${index}`}
      </td>
      <td>{tokens(num_tokens)}</td>
      <td>{tokens(each.computed)}</td>
      <td>{row ? tokens(row.end - row.start) : "–"}</td>
      <td>{tokens(blocks.length)}</td>
      <td>{ranges(blocks) || "–"}</td>
      <td>{stateOf(scene, each)}</td>
    </tr>
  );
}

function stateOf({ event }: Scene, { sequence, state }: Sequence): string {
  const why = event?.waits.find((waits) => waits.sequence === sequence)?.why;
  const left = event?.happened.find((one) => one.type === "left" && one.sequence === sequence);
  if (state === "running") return "running";
  if (left?.type === "left") return `gave way (${left.why})`;
  return why ? `waits: ${WAITING[why]}` : "waits";
}

const CHANGES = { taken: "taken", shared: "shared", freed: "given back", none: "" };

export function KvBlocksTable({ scene }: { scene: Scene }): JSX.Element {
  const views = [...scene.blocks.values()].sort((a, b) => a.block - b.block);
  return (
    <details class="whole">
      <summary>All blocks in use as a table</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label="All blocks in use">
        <table>
          <caption>{`Blocks: ${momentName(scene).toLowerCase()}; all others are free`}</caption>
          <Heads
            texts={["block", "sequences", "references", "kept", "again", "new", "empty", "read", "change"]}
          />
          <tbody>
            {views.map(({ block, owners, change, kept, again, fresh, read }) => (
              <tr key={block}>
                <th scope="row">{tokens(block)}</th>
                <td>{owners.join(", ")}</td>
                <td>{change === "freed" ? 0 : owners.length}</td>
                <td>{kept}</td>
                <td>{again}</td>
                <td>{fresh}</td>
                <td>{scene.blockSize - kept - again - fresh}</td>
                <td>{read ? "yes" : ""}</td>
                <td>{CHANGES[change]}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
