// The text itself: under each token a bar as high as its weight, so that it is read in place. What the
// query does not see is dimmed and dashed. The mouse may choose a query here; keys have the slider.

import type { JSX } from "preact";
import { colorOf, levelOf } from "../chart/matrix";
import { firstSeen, nameOf, rowOf, shown, type Attention } from "../data/attention";
import { go, link } from "../state/navigation";
import { theme } from "../state/theme";

const HIGHEST = 14;

export function TokenStrip({ view, query }: { view: Attention; query: number }): JSX.Element {
  const row = rowOf(view.matrix, link.value.cells, query);
  const first = firstSeen(query, view.window);
  const pick = (event: MouseEvent): void => {
    const place = (event.target as HTMLElement).dataset.place;
    if (place !== undefined) go({ query: Number(place) + 1 });
  };
  return (
    <div class="strip-figure">
      <p class="note" id="strip-note">
        {`The text as ${nameOf(view, query)} sees it: the higher the bar, the more weight.`}
        {view.matrix.edge > 1 && ` A bar stands for ${view.matrix.edge} tokens.`}
      </p>
      <div class="strip" role="region" tabIndex={0} aria-labelledby="strip-note" onClick={pick}>
        {view.tokens.map(({ text }, place) => {
          const unseen = place > query || place < first;
          const weight = unseen ? 0 : (row[Math.floor(place / view.matrix.edge)] ?? 0);
          const level = levelOf(weight);
          const height = Math.round(HIGHEST * Math.sqrt(weight));
          return (
            <span
              key={place}
              data-place={place}
              class={unseen ? "unseen" : place === query ? "query" : ""}
              style={
                level > 0
                  ? { boxShadow: `inset 0 -${height}px ${colorOf(Math.max(level, 4), theme.value)}` }
                  : {}
              }
            >
              {shown(text)}
            </span>
          );
        })}
      </div>
    </div>
  );
}
