import type { JSX } from "preact";
import type { Frame } from "../chart/geometry";
import { RooflineChart, type Roof, type Trail } from "../chart/RooflineChart";
import { useWidth } from "../chart/useWidth";
import type { Loaded } from "../data/budget";
import { KIND_WORD } from "../data/provenance";
import { scaled } from "../data/rates";
import type { Part } from "../data/stages";
import { percent, tokens } from "../data/words";
import type { Reached } from "../data/reached";
import { KindTag } from "../parts/KindTag";
import { go } from "../state/navigation";
import { PAINTS, theme } from "../state/theme";
import { SaveChart } from "./SaveChart";

const NARROW = 520;

interface Props {
  readonly loaded: Loaded;
  readonly reached: readonly Reached[];
  readonly parts: readonly Part[];
  readonly roofs: readonly Roof[];
  readonly length: number;
  readonly chosen: string;
  /** "decode step, batch 1". */
  readonly what: string;
}

export function RooflineFigure(props: Props): JSX.Element {
  const { loaded, reached, parts, roofs, length, chosen, what } = props;
  const [element, width] = useWidth<HTMLElement>();
  const trails = parts.flatMap(({ key, label, color }): Trail[] => {
    const points = reached.filter(({ stage, flops }) => stage === key && flops > 0);
    return points.length > 0 ? [{ key, label, color, points }] : [];
  });
  const flat = parts.filter(({ key }) => !trails.some((trail) => trail.key === key));
  const caption = `Stages of a ${what}, as time grows with length`;
  return (
    <div>
      <figure ref={element}>
        <figcaption>
          <KindTag kind={loaded.kind} more={`time; FLOPs and bytes counted · ${what}`} />
        </figcaption>
        <RooflineChart
          trails={trails}
          roofs={roofs}
          length={length}
          chosen={chosen}
          frame={frameOf(width)}
          paint={PAINTS[theme.value]}
          summary={summaryOf(props, trails)}
          onPick={(stage) => go({ stage })}
        />
      </figure>
      <p class="note beside">
        {`A thin line follows each stage through all measured lengths. `}
        {roofs.length === 1 && `The page knows no data sheet of this machine. `}
        {flat.length > 0 &&
          `Not in the picture, for their arithmetic is not worth counting: ${flat.map(({ label }) => label).join(", ")}.`}
      </p>
      <SaveChart
        what="roofline"
        loaded={loaded}
        title={`What each stage of ${loaded.run.model.name} reaches of its machine`}
        caption={`${caption}; time ${KIND_WORD[loaded.kind]}, FLOPs and bytes counted`}
        figure={() => element.current}
        rows={() => rowsOf(props)}
      />
    </div>
  );
}

function frameOf(width: number): Frame {
  const height = width < NARROW ? 340 : 440;
  return { width, height, left: 48, right: width - 8, top: 26, bottom: height - 44 };
}

function summaryOf({ roofs, length, what }: Props, trails: readonly Trail[]): string {
  const tops = roofs.map(
    ({ name, limits }) => `${name} ${scaled(limits.flop_s, "FLOP/s")} and ${scaled(limits.bytes_s, "B/s")}`,
  );
  const points = trails.flatMap(({ label, points }) => {
    const point = points.find((found) => found.length === length);
    return point ? [`${label} ${percent(point.share.value, 0)}`] : [];
  });
  return `Roofline of a ${what} at ${tokens(length)} tokens. Roofs: ${tops.join("; ")}. Of the measured roof reach: ${points.join(", ")}.`;
}

function rowsOf({ loaded: { run, kind }, reached, what }: Props): (string | number)[][] {
  return [
    [
      ...["run", "model", "what", "length", "stage", "flops", "bytes", "time_ms", "time_lo", "time_hi", "n"],
      ...["flop_s", "byte_s", "share_of_roof", "kind"],
    ],
    ...reached.map(({ length, stage, flops, bytes, time, rate, traffic, share }) => [
      ...[run.id, run.model.name, what, length, stage, flops, bytes],
      ...[time.value, time.interval.lo, time.interval.hi, time.n],
      ...[rate.value, traffic.value, share.value, kind],
    ]),
  ];
}
