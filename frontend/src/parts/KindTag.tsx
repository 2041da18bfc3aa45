import type { JSX } from "preact";
import { KIND_WORDS, type Kind } from "../data/provenance";

/** Where a number comes from, in words; the swatch beside them repeats it in the chart's language. */
export function KindTag({ kind, more }: { kind: Kind; more?: string }): JSX.Element {
  return (
    <span class={`kind kind-${kind}`}>
      {KIND_WORDS[kind]}
      {more && ` · ${more}`}
    </span>
  );
}
