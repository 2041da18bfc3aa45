// The pool as a picture, and what its marks mean.

import type { JSX } from "preact";
import { Cell, Hatch, PoolChart } from "../chart/PoolChart";
import { CELL, columnsIn, planOf } from "../chart/pool";
import { useWidth } from "../chart/useWidth";
import type { BlockView, Scene } from "../data/scene";
import { inBlocks, momentName } from "../data/told";
import { tokens } from "../data/words";
import { go, link } from "../state/navigation";
import { PAINTS, theme } from "../state/theme";
import { everHeld } from "../state/watching";

export function KvFigure({ scene }: { scene: Scene }): JSX.Element {
  const [element, width] = useWidth<HTMLElement>();
  const held = new Set([...everHeld(), ...scene.blocks.keys()]);
  const { left } = planOf(held, scene.numBlocks, columnsIn(width));
  const { sequence } = link.value;
  return (
    <div class="pooled">
      <figure ref={element}>
        <figcaption>
          {`Blocks by number. ${inBlocks(scene.numUsed)} of ${tokens(scene.numBlocks)} in use.`}
        </figcaption>
        <PoolChart
          scene={scene}
          held={held}
          width={width}
          chosen={sequence}
          paint={PAINTS[theme.value]}
          summary={summaryOf(scene)}
          onPick={(picked) => go({ sequence: picked === sequence ? 0 : picked })}
        />
      </figure>
      {left > 0 && (
        <p class="note">{`${tokens(left)} more rows with blocks in use are in the table alone.`}</p>
      )}
      <Legend size={scene.blockSize} />
    </div>
  );
}

function summaryOf(scene: Scene): string {
  const holders = scene.sequences.filter(({ blocks }) => blocks.length > 0);
  const each = holders.map(({ sequence, blocks }) => `sequence ${sequence} ${inBlocks(blocks.length)}`);
  const shared = [...scene.blocks.values()].filter(
    ({ owners, change }) => owners.length > 1 && change !== "freed",
  ).length;
  return `${momentName(scene)}: ${inBlocks(scene.numUsed)} of ${tokens(scene.numBlocks)} in use${shared > 0 ? `, ${tokens(shared)} of them shared` : ""}. ${each.join(", ")}.`;
}

const SAMPLE: BlockView = {
  block: 0,
  owners: [1],
  change: "none",
  kept: 0,
  again: 0,
  fresh: 0,
  read: false,
};

function Legend({ size }: { size: number }): JSX.Element {
  const part = (share: number): number => Math.round(size * share);
  const samples: readonly (readonly [Partial<BlockView>, string])[] = [
    [{ kept: size }, "held by sequence 1, full"],
    [{ kept: part(0.6) }, "the strip: tokens stored"],
    [{ kept: part(0.5), fresh: part(0.25) }, "plain end: new in this step"],
    [{ again: part(0.8) }, "hatched: computed again"],
    [{ kept: size, owners: [2, 3, 4] }, "sequence 2 and two others"],
    [{ change: "taken", fresh: part(0.1) }, "framed: taken or shared just now"],
    [{ kept: size, read: true }, "dot: attention reads it"],
    [{ change: "freed" }, "dashed: given back"],
  ];
  const paint = PAINTS[theme.value];
  return (
    <ul class="legend">
      {samples.map(([view, text]) => (
        <li key={text}>
          <svg width={CELL.width} height={CELL.height} aria-hidden="true" font-family="system-ui, sans-serif">
            <Hatch paint={paint} />
            <Cell block={0} view={{ ...SAMPLE, ...view }} size={size} x={0} y={0} chosen={0} paint={paint} />
          </svg>
          {text}
        </li>
      ))}
    </ul>
  );
}
