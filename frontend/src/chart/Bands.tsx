import type { JSX } from "preact";
import type { Kind } from "../data/provenance";
import type { Paint } from "../state/theme";
import { fillOf, Hatches, LOOKS } from "./fill";
import { spread, type Band, type Frame } from "./geometry";

const LABEL_GAP = 15;

interface Props {
  readonly bands: readonly Band[];
  readonly kind: Kind;
  readonly frame: Frame;
  readonly paint: Paint;
}

/** The stack; solid parts are set apart by a line in the page's own colour, hatched ones by theirs. */
export function Bands({ bands, kind, paint }: Props): JSX.Element {
  return (
    <g>
      <Hatches kind={kind} colors={bands.map((band) => band.part.color)} />
      {bands.map(({ part, area }) => (
        <path key={part.key} d={area} fill={fillOf(kind, part.color)} data-part={part.key} />
      ))}
      {bands.map(({ part, edge }) => (
        <path
          key={part.key}
          d={edge}
          fill="none"
          stroke={LOOKS[kind].hatch === null ? paint.surface : part.color}
          stroke-width="1.5"
          stroke-dasharray={LOOKS[kind].dash}
          data-edge={part.key}
        />
      ))}
    </g>
  );
}

/** Names beside the bands, moved apart where bands are thin, each with a line to its band. */
export function Labels({ bands, frame, paint }: Props): JSX.Element {
  const named = bands.filter((band) => !band.empty);
  const places = spread(
    named.map((band) => band.middle),
    LABEL_GAP,
    frame.top + 4,
    frame.bottom - 4,
  );
  return (
    <g font-size="12">
      {named.map(({ part, middle }, index) => {
        const y = places[index] ?? middle;
        const bend = `M${frame.right + 2} ${middle}L${frame.right + 10} ${y}L${frame.right + 14} ${y}`;
        return (
          <g key={part.key}>
            <path d={bend} fill="none" stroke={part.color} stroke-width="1.5" />
            <text
              x={frame.right + 18}
              y={y + 4}
              fill={paint.ink}
              font-weight={part.key === "attention" ? "600" : "400"}
            >
              {part.label}
            </text>
          </g>
        );
      })}
    </g>
  );
}
