// The query that is looked at: a native slider under the matrix.

import type { JSX } from "preact";
import type { Attention } from "../data/attention";
import { go } from "../state/navigation";

interface Props {
  readonly view: Attention;
  readonly query: number;
  readonly spoken: string;
}

export function QueryRange({ view, query, spoken }: Props): JSX.Element {
  return (
    <input
      type="range"
      class="cursor wide"
      aria-label="Query token"
      aria-valuetext={spoken}
      min="1"
      max={Math.max(view.num_tokens, 1)}
      step="1"
      value={query + 1}
      onInput={(event) => go({ query: Number(event.currentTarget.value) })}
    />
  );
}
