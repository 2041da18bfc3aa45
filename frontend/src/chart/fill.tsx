// How a number's origin looks: solid where a clock was read, hatched where a model spoke, sparsely
// and dashed where the model was never checked here. Colour says which part, never which origin.

import type { JSX } from "preact";
import type { Kind } from "../data/provenance";

interface Look {
  /** Distance between hatch lines in pixels; null: solid. */
  readonly hatch: number | null;
  readonly dash: string | undefined;
  /** Whether points are filled. */
  readonly filled: boolean;
}

export const LOOKS: Record<Kind, Look> = {
  measured: { hatch: null, dash: undefined, filled: true },
  recorded: { hatch: null, dash: undefined, filled: false },
  calibrated: { hatch: 6, dash: undefined, filled: true },
  spec: { hatch: 12, dash: "6 4", filled: false },
};

const patternId = (kind: Kind, color: string): string => `${kind}-${color.slice(1)}`;

export function fillOf(kind: Kind, color: string): string {
  return LOOKS[kind].hatch === null ? color : `url(#${patternId(kind, color)})`;
}

/** Through the tile, with the corners that the neighbours' lines reach into. */
const diagonal = (size: number): string =>
  `M0 ${size}L${size} 0M-1 1L1 -1M${size - 1} ${size + 1}L${size + 1} ${size - 1}`;

/** The hatches that these colours need; nothing for a solid kind. */
export function Hatches({ kind, colors }: { kind: Kind; colors: readonly string[] }): JSX.Element | null {
  const { hatch } = LOOKS[kind];
  if (hatch === null) return null;
  return (
    <defs>
      {[...new Set(colors)].map((color) => (
        <pattern
          key={color}
          id={patternId(kind, color)}
          width={hatch}
          height={hatch}
          patternUnits="userSpaceOnUse"
        >
          <rect width={hatch} height={hatch} fill={color} fill-opacity="0.25" />
          <path d={diagonal(hatch)} stroke={color} stroke-width="2" fill="none" />
        </pattern>
      ))}
    </defs>
  );
}
