// All heads at once, small: a grid that is one stop for Tab, in which arrows move and choose.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { colorOf, LEVELS } from "../chart/matrix";
import { useWidth } from "../chart/useWidth";
import type { Thumbnails } from "../data/attention";
import { percent } from "../data/words";
import { head, layer, small } from "../state/looking";
import { go } from "../state/navigation";
import { PAINTS, theme, type Theme } from "../state/theme";

/** Pixels of a head's picture: the least that a finger hits, and the most that is of use. */
const LEAST = 24;
const MOST = 36;
const LABEL = 64;

export function Heads(): JSX.Element | null {
  const [element, width] = useWidth<HTMLDivElement>();
  const found = small.value;
  const numLayers = found?.heads.length ?? 0;
  const numHeads = found?.heads[0]?.length ?? 0;
  // Layers run across where they have room, and down where they have not.
  const across = (width - LABEL) / numLayers >= LEAST;
  const [columns, rows] = across ? [numLayers, numHeads] : [numHeads, numLayers];
  const size = Math.max(LEAST, Math.min(MOST, Math.floor((width - LABEL) / Math.max(columns, 1))));
  return (
    <section class="heads" ref={element} aria-labelledby="heads-title">
      <h3 id="heads-title">All heads</h3>
      <p class="note" id="heads-note">
        Each picture is one head: a row for each query, a column for each key, the more colour the more
        weight. Arrow keys move, and choose.
      </p>
      {found && (
        <div class={across ? "heads-room" : "heads-room tall"}>
          <div
            role="grid"
            aria-label="Heads by layer"
            aria-describedby="heads-note"
            onKeyDown={(event) => move(event, across, numLayers, numHeads)}
          >
            <div role="row" class="heads-row">
              <span role="columnheader" class="heads-label">
                {across ? "layer" : "head"}
              </span>
              {Array.from({ length: columns }, (_, column) => (
                <span key={column} role="columnheader" class="heads-number" style={{ width: `${size}px` }}>
                  {column}
                </span>
              ))}
            </div>
            {Array.from({ length: rows }, (_, row) => (
              <div role="row" class="heads-row" key={row}>
                <span role="rowheader" class="heads-label">
                  {across ? "head" : "layer"} {row}
                </span>
                {Array.from({ length: columns }, (_, column) => (
                  <Head
                    key={column}
                    found={found}
                    at={across ? [column, row] : [row, column]}
                    size={size}
                    theme={theme.value}
                  />
                ))}
              </div>
            ))}
          </div>
        </div>
      )}
    </section>
  );
}

const idOf = (layer: number, head: number): string => `head-${layer}-${head}`;

function move(event: KeyboardEvent, across: boolean, numLayers: number, numHeads: number): void {
  const step = KEYS.get(event.key);
  if (!step) return;
  event.preventDefault();
  const [right, down] = step;
  const [byLayer, byHead] = across ? [right, down] : [down, right];
  const next = {
    layer: Math.min(Math.max(layer.value + byLayer, 0), numLayers - 1),
    head: Math.min(Math.max(head.value + byHead, 0), numHeads - 1),
  };
  go(next);
  document.getElementById(idOf(next.layer, next.head))?.focus();
}

const KEYS = new Map<string, readonly [number, number]>([
  ["ArrowLeft", [-1, 0]],
  ["ArrowRight", [1, 0]],
  ["ArrowUp", [0, -1]],
  ["ArrowDown", [0, 1]],
  ["Home", [-Infinity, 0]],
  ["End", [Infinity, 0]],
  ["PageUp", [0, -Infinity]],
  ["PageDown", [0, Infinity]],
]);

interface Props {
  readonly found: Thumbnails;
  readonly at: readonly [number, number];
  readonly size: number;
  readonly theme: Theme;
}

function Head({ found, at: [inLayer, inHead], size, theme }: Props): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const bytes = found.heads[inLayer]?.[inHead] ?? "";
  useEffect(() => {
    if (canvas.current) paint(canvas.current, bytes, found.edge, theme);
  }, [bytes, found.edge, theme]);
  const chosen = inLayer === layer.value && inHead === head.value;
  const name = `Layer ${inLayer}, head ${inHead}: ${percent(found.first[inLayer]?.[inHead] ?? 0, 0)} on the first token`;
  return (
    <button
      type="button"
      role="gridcell"
      id={idOf(inLayer, inHead)}
      class="head"
      aria-label={name}
      aria-selected={chosen}
      title={name}
      tabIndex={chosen ? 0 : -1}
      style={{ width: `${size}px`, height: `${size}px` }}
      onClick={() => go({ layer: inLayer, head: inHead })}
    >
      <canvas ref={canvas} width={found.edge} height={found.edge} aria-hidden="true" />
    </button>
  );
}

/** 255·√weight by cell, as the matrix paints its own. */
function paint(canvas: HTMLCanvasElement, bytes: string, edge: number, theme: Theme): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  context.fillStyle = PAINTS[theme].surface;
  context.fillRect(0, 0, edge, edge);
  const cells = atob(bytes);
  for (let cell = 0; cell < cells.length; cell += 1) {
    const level = Math.round((LEVELS * cells.charCodeAt(cell)) / 255);
    if (level === 0) continue;
    context.fillStyle = colorOf(level, theme);
    context.fillRect(cell % edge, Math.floor(cell / edge), 1, 1);
  }
}
