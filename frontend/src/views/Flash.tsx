// Flash attention on the very head that is looked at: tile by tile, with what each query keeps.

import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { colorOf } from "../chart/matrix";
import { TileChart } from "../chart/TileChart";
import { useWidth } from "../chart/useWidth";
import { nameOf, small as inSmall, type Attention, type Flash } from "../data/attention";
import { movedAt, sizeWords, skippedOf, span, stepOf, told, visitsOf, type Visit } from "../data/flash";
import { tokens } from "../data/words";
import { looking, queryOf, view } from "../state/looking";
import { go, link } from "../state/navigation";
import { PAINTS, theme } from "../state/theme";
import { Course } from "./Course";
import { HeadFields, TextField, Trouble } from "./LookedInto";
import { Moved } from "./Moved";
import { QueryRange } from "./QueryRange";
import { SaveView } from "./SaveView";
import { Stepper } from "./Stepper";
import "./attentionStyle";

const SIZES = [0, 2, 4, 8, 16, 32, 64];

export function FlashView(): JSX.Element {
  const shown = view.value;
  return (
    <section aria-labelledby="flash-title">
      <h2 id="flash-title">Flash attention, tile by tile</h2>
      <p class="lead">
        The scores of a tile are computed, used and forgotten. What each query keeps is its largest score so
        far (m), a sum (l) and its partial output; a tile that raises m corrects the others by one factor.
      </p>
      <TextField />
      <Trouble />
      {shown?.flash && <Walk view={shown} flash={shown.flash} />}
    </section>
  );
}

function Walk({ view, flash }: { view: Attention; flash: Flash }): JSX.Element {
  const visits = visitsOf(flash);
  const step = Math.min(link.value.step, visits.length - 1);
  const visit = visits[step];
  const figure = useRef<HTMLElement | null>(null);
  if (!visit) return <p class="note">There is no tile.</p>;
  const query = queryOf(view, link.value.query);
  return (
    <section class="one-head" aria-labelledby="walk-title" aria-busy={looking.value}>
      <h3 id="walk-title" class="head-title">
        Layer {view.layer}, head {view.head}
      </h3>
      <p class="note">{sizeWords({ ...view, flash })}</p>
      <div class="controls">
        <HeadFields />
        <SizeField />
      </div>
      <Stepper
        step={step}
        count={visits.length}
        onStep={(next) => go({ step: next })}
        valueText={`tile ${step + 1} of ${visits.length}: queries ${span(visit.tile.queries)}, keys ${span(visit.tile.keys)}; ${movedAt(flash, visit.index)}`}
        told={told(flash, visit)}
      />
      <div class="split">
        <Figure flash={flash} visits={visits} step={step} figure={figure} />
        <div class="beside-matrix">
          <p class="chosen-query">
            Query <strong>{nameOf(view, query)}</strong>
          </p>
          <QueryRange view={view} query={query} spoken={`query ${nameOf(view, query)}`} />
          <button type="button" class="quiet" onClick={() => go({ step: stepOf(visits, flash.row) })}>
            Go to its first tile
          </button>
          <Course flash={flash} tile={visit.tile} />
        </div>
      </div>
      <Moved flash={flash} index={visit.index} />
      <Ended view={view} flash={flash} />
      <SaveView
        what="flash"
        view={view}
        title={`Flash attention, tile ${step + 1} of ${visits.length}: layer ${view.layer}, head ${view.head}`}
        figure={() => figure.current}
        rows={() => rowsOf(flash)}
      />
    </section>
  );
}

function SizeField(): JSX.Element {
  const { tile } = link.value;
  const sizes = SIZES.includes(tile) ? SIZES : [...SIZES, tile];
  return (
    <label class="field">
      Tile
      <select
        value={String(tile)}
        onChange={(event) => go({ tile: Number(event.currentTarget.value), step: 0 })}
      >
        {sizes.map((size) => (
          <option key={size} value={String(size)}>
            {size === 0 ? "automatic" : `${size} × ${size}`}
          </option>
        ))}
      </select>
    </label>
  );
}

interface FigureProps {
  readonly flash: Flash;
  readonly visits: readonly Visit[];
  readonly step: number;
  readonly figure: { current: HTMLElement | null };
}

function Figure({ flash, visits, step, figure }: FigureProps): JSX.Element {
  const [element, width] = useWidth<HTMLElement>();
  const { after, before } = skippedOf(flash);
  const why = [
    after && `${tokens(after)} behind the diagonal`,
    before && `${tokens(before)} before the window`,
  ];
  const skipped = after + before > 0 ? `; skipped: ${why.filter(Boolean).join(", ")}` : "";
  const summary = `${tokens(flash.tiles.length)} tiles: ${tokens(visits.length)} computed${skipped}`;
  return (
    <figure
      ref={(node) => {
        element.current = node;
        figure.current = node;
      }}
    >
      <figcaption>
        {summary} <span class="note">(hatched)</span>
      </figcaption>
      <TileChart
        flash={flash}
        visits={visits}
        step={step}
        width={Math.min(width, 620)}
        paint={PAINTS[theme.value]}
        color={colorOf(6, theme.value)}
        summary={`${summary}. ${step + 1} of ${visits.length} done.`}
        onPick={(picked) => go({ step: picked })}
      />
    </figure>
  );
}

function Ended({ view, flash }: { view: Attention; flash: Flash }): JSX.Element {
  return (
    <p class="trust note">
      At the end the output differs from plain softmax by <strong>{inSmall(flash.error)}</strong> at most, and
      by {inSmall(flash.error_to_backend)} from the kernel that ran ({view.backend} on {view.device},{" "}
      {view.dtype}). The steps are computed in float32 from the engine’s own q, k and v; the bytes are
      modelled, not measured.
    </p>
  );
}

/** Every query of every tile. */
function rowsOf({ tiles, bytes_tiled, bytes_written }: Flash): (string | number)[][] {
  const header = ["query", "key_from", "key_to", "skipped", "peak", "total", "rescale", "norm"];
  const rows = tiles.flatMap(({ queries, keys, skipped, peak, total, rescale, norm }, index) =>
    Array.from({ length: queries[1] - queries[0] }, (_, line) => [
      queries[0] + line + 1,
      keys[0] + 1,
      keys[1],
      skipped,
      peak?.[line] ?? "",
      total?.[line] ?? "",
      rescale?.[line] ?? "",
      norm?.[line] ?? "",
      bytes_tiled[index] ?? "",
      bytes_written[index] ?? "",
    ]),
  );
  return [[...header, "bytes_tiled", "bytes_written"], ...rows];
}
