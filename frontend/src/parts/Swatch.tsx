import type { JSX } from "preact";
import { fillOf, Hatches } from "../chart/fill";
import type { Kind } from "../data/provenance";

/** The band's own fill beside its name. */
export function Swatch({ color, kind }: { color: string; kind: Kind }): JSX.Element {
  return (
    <svg class="swatch" width="12" height="12" aria-hidden="true">
      <Hatches kind={kind} colors={[color]} />
      <rect width="12" height="12" rx="2" fill={fillOf(kind, color)} />
    </svg>
  );
}
