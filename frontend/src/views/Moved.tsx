// Bytes moved so far, in tiles and with all scores written out: two bars of one scale.

import type { JSX } from "preact";
import { colorOf } from "../chart/matrix";
import { Picture } from "../chart/Picture";
import { useWidth } from "../chart/useWidth";
import { inBytes, type Flash } from "../data/attention";
import { verdict } from "../data/flash";
import { PAINTS, theme } from "../state/theme";

const ROW = 28;
const BAR = 16;
const LEFT = 92;
const NUMBER = 76;

export function Moved({ flash, index }: { flash: Flash; index: number }): JSX.Element {
  const [element, width] = useWidth<HTMLElement>();
  const paint = PAINTS[theme.value];
  const rows = [
    { name: "in tiles", all: flash.bytes_tiled, color: colorOf(6, theme.value) },
    { name: "written out", all: flash.bytes_written, color: paint.quiet },
  ];
  const most = Math.max(...rows.map(({ all }) => all.at(-1) ?? 1));
  const wide = Math.min(width, 760);
  const x = (count: number): number => LEFT + (count / most) * (wide - LEFT - NUMBER);
  return (
    <figure ref={element} class="moved">
      <figcaption>
        Bytes moved so far <span class="note">modelled; the outline is the whole</span>
      </figcaption>
      <Picture
        frame={{ width: wide, height: rows.length * ROW }}
        look="moved-bars"
        summary={rows
          .map(({ name, all }) => `${name} ${inBytes(all[index] ?? 0)} of ${inBytes(all.at(-1) ?? 0)}`)
          .join("; ")}
      >
        <g font-size="12">
          {rows.map(({ name, all, color }, row) => (
            <g key={name}>
              <text x={LEFT - 8} y={row * ROW + BAR} text-anchor="end" fill={paint.quiet}>
                {name}
              </text>
              <rect x={LEFT} y={row * ROW + 3} width={x(all[index] ?? 0) - LEFT} height={BAR} fill={color} />
              <rect
                x={LEFT}
                y={row * ROW + 3}
                width={x(all.at(-1) ?? 0) - LEFT}
                height={BAR}
                fill="none"
                stroke={paint.quiet}
              />
              <text x={x(all.at(-1) ?? 0) + 6} y={row * ROW + BAR} fill={paint.ink}>
                {inBytes(all[index] ?? 0)}
              </text>
            </g>
          ))}
        </g>
      </Picture>
      <p class="note">{verdict(flash)}</p>
    </figure>
  );
}
