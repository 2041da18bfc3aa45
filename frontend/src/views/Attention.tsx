// What the heads of the running model look at in a text: all of them small, one of them large.

import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { MatrixChart } from "../chart/MatrixChart";
import { useWidth } from "../chart/useWidth";
import { meanFirst, nameOf, small as inSmall, spokenRow, type Attention } from "../data/attention";
import { percent, tokens } from "../data/words";
import { Choice } from "../parts/Choice";
import { looking, queryOf, view } from "../state/looking";
import { go, link } from "../state/navigation";
import { PAINTS, theme } from "../state/theme";
import { Costs } from "./Costs";
import { Heads } from "./Heads";
import { HeadFields, TextField, Trouble } from "./LookedInto";
import { Mass } from "./Mass";
import { QueryRange } from "./QueryRange";
import { rowsOf, SaveView } from "./SaveView";
import { TopKeys } from "./TopKeys";
import { TokenStrip } from "./TokenStrip";
import "./attentionStyle";

const CELLS = [
  { key: "max", text: "largest" },
  { key: "mean", text: "mean" },
] as const;

export function AttentionView(): JSX.Element {
  return (
    <section aria-labelledby="attention-title">
      <h2 id="attention-title">What a head looks at</h2>
      <p class="lead">
        Your text goes through the engine’s own model once more, and this page shows whom each token takes
        from: with real weights, of any head.
      </p>
      <TextField />
      <Trouble />
      {view.value && (
        <>
          <Heads />
          <OneHead view={view.value} />
        </>
      )}
    </section>
  );
}

function OneHead({ view }: { view: Attention }): JSX.Element {
  const [hovered, setHovered] = useState<number | null>(null);
  const query = Math.min(hovered ?? queryOf(view, link.value.query), view.num_tokens - 1);
  const figure = useRef<HTMLElement | null>(null);
  return (
    <section class="one-head" aria-labelledby="head-title" aria-busy={looking.value}>
      <h3 id="head-title" class="head-title">
        Layer {view.layer}, head {view.head}
      </h3>
      <p class="note">{whichOf(view)}</p>
      <div class="controls">
        <HeadFields />
        {view.matrix.edge > 1 && (
          <Choice
            legend={`Each cell, ${view.matrix.edge} × ${view.matrix.edge} tokens`}
            name="cells"
            choices={CELLS}
            chosen={link.value.cells}
            onChoose={(cells) => go({ cells })}
          />
        )}
      </div>
      <div class="split">
        <Figure view={view} query={query} figure={figure} onPoint={setHovered} />
        <div class="beside-matrix">
          <TopKeys view={view} query={query} />
          <Mass view={view} query={query} />
        </div>
      </div>
      <TokenStrip view={view} query={query} />
      <Made view={view} />
      <Costs view={view} />
      <SaveView
        what="attention"
        view={view}
        title={`Whom each token takes from: layer ${view.layer}, head ${view.head}`}
        figure={() => figure.current}
        rows={() => rowsOf(view)}
      />
    </section>
  );
}

function whichOf(view: Attention): string {
  const shares =
    view.group > 1
      ? `It reads from KV head ${view.kv_head}, which serves ${view.group} query heads.`
      : "It has a KV head of its own.";
  const sees = view.window
    ? `A query of this layer sees the last ${tokens(view.window)} tokens, itself included.`
    : "A query sees itself and all that comes before it.";
  return `${shares} ${sees}`;
}

interface FigureProps {
  readonly view: Attention;
  readonly query: number;
  readonly figure: { current: HTMLElement | null };
  readonly onPoint: (query: number | null) => void;
}

function Figure({ view, query, figure, onPoint }: FigureProps): JSX.Element {
  const [element, width] = useWidth<HTMLElement>();
  return (
    <figure
      ref={(node) => {
        element.current = node;
        figure.current = node;
      }}
    >
      <figcaption class="note">
        A row is a query, a column a key; each token stands where its row ends and its column begins. Hatched:
        not seen.
      </figcaption>
      <MatrixChart
        view={view}
        cells={link.value.cells}
        query={query}
        width={Math.min(width, 680)}
        paint={PAINTS[theme.value]}
        theme={theme.value}
        summary={`Weights of layer ${view.layer}, head ${view.head}. ${spokenRow(view, query)}. On average ${percent(meanFirst(view.first))} go to the first token.`}
        onPoint={onPoint}
        onPick={(picked) => go({ query: picked + 1 })}
      />
      <QueryRange view={view} query={query} spoken={spokenRow(view, query)} />
      <p class="chosen-query">
        Query <strong>{nameOf(view, query)}</strong>
      </p>
    </figure>
  );
}

/** Where the picture comes from, and what it does not say. */
function Made({ view }: { view: Attention }): JSX.Element {
  const { backend, device, dtype, difference } = view;
  return (
    <div class="trust">
      <p class="note">
        Recomputed by the reference path for this view: plain softmax in float32, of the q and k that the
        engine computed. Largest difference to the kernel that ran ({backend} on {device}, {dtype}):{" "}
        <strong>{inSmall(difference.head)}</strong> in this head’s output, {inSmall(difference.layer)} in
        those of the layer.
      </p>
      <p class="note">
        Attention weights are not by themselves an explanation: they say where a head reads from, not what the
        values it reads do to the answer.
      </p>
    </div>
  );
}
