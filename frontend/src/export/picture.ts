// The charts as one picture that explains itself away from the page: sentence above, origin below.
// All paint is in attributes, because a picture has no stylesheet.

import type { Paint } from "../state/theme";

const SVG = "http://www.w3.org/2000/svg";
const FONT = "system-ui, sans-serif";
const MARGIN = 24;
const TITLE = { size: 19, line: 26 };
const SMALL = { size: 12, line: 18 };
/** Width of a letter in parts of its height, on the safe side. */
const LETTER = 0.54;

export interface Plate {
  readonly caption: string;
  readonly chart: SVGSVGElement;
}

export function pictureOf(
  title: string,
  plates: readonly Plate[],
  footer: readonly string[],
  paint: Paint,
): SVGSVGElement {
  const width = Math.max(...plates.map(({ chart }) => sizeOf(chart).width), 320) + 2 * MARGIN;
  const picture = element("svg", { xmlns: SVG, width, "font-family": FONT });
  const page = picture.appendChild(element("rect", { width, fill: paint.surface }));
  let y = MARGIN;
  const write = (text: string, { size, line }: typeof TITLE, fill: string): void => {
    for (const part of wrapped(text, (width - 2 * MARGIN) / (size * LETTER))) {
      y += line;
      picture.appendChild(
        element("text", { x: MARGIN, y: y - line + size, "font-size": size, fill }),
      ).textContent = part;
    }
  };
  write(title, TITLE, paint.ink);
  for (const { caption, chart } of plates) {
    y += SMALL.line / 2;
    write(caption, SMALL, paint.quiet);
    const place = picture.appendChild(element("g", { transform: `translate(${MARGIN} ${y})` }));
    place.append(...[...chart.children].map((child) => child.cloneNode(true)));
    y += sizeOf(chart).height + SMALL.line / 2;
  }
  for (const line of footer) write(line, SMALL, paint.quiet);
  const height = y + MARGIN;
  page.setAttribute("height", String(height));
  picture.setAttribute("height", String(height));
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return picture;
}

export function sizeOf(svg: SVGSVGElement): { width: number; height: number } {
  return { width: Number(svg.getAttribute("width")), height: Number(svg.getAttribute("height")) };
}

export const svgText = (picture: SVGSVGElement): string => new XMLSerializer().serializeToString(picture);

function element<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string | number>>,
): SVGElementTagNameMap[Name] {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/** Lines of at most so many letters, broken at spaces. */
export function wrapped(text: string, letters: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= letters)
      lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}
