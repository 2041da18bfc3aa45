// A picture as pixels. The usual way, an <img> of the SVG, needs data: or blob: addresses, which the
// page's content security policy forbids; the few marks that our charts use are drawn here instead.

import { sizeOf } from "./picture";

export function pngOf(picture: SVGSVGElement, scale: number): Promise<Blob> {
  const { width, height } = sizeOf(picture);
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = contextOf(canvas);
  context.scale(scale, scale);
  drawChildren(picture, context);
  return new Promise((done, failed) => {
    canvas.toBlob(
      (blob) => (blob ? done(blob) : failed(new Error("This browser made no picture."))),
      "image/png",
    );
  });
}

function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser cannot draw pictures.");
  return context;
}

function drawChildren(parent: Element, context: CanvasRenderingContext2D): void {
  for (const child of parent.children) draw(child, context);
}

function draw(mark: Element, context: CanvasRenderingContext2D): void {
  if (mark.tagName === "defs") return; // patterns are drawn where they are used
  context.save();
  const moved = /translate\(([-\d.]+)[ ,]([-\d.]+)\)/.exec(mark.getAttribute("transform") ?? "");
  if (moved) context.translate(Number(moved[1]), Number(moved[2]));
  if (mark.tagName === "g") drawChildren(mark, context);
  else if (mark.tagName === "text") write(mark, context);
  else trace(mark, context);
  context.restore();
}

/** An attribute of the mark or of the nearest thing around it. */
const get = (mark: Element, name: string): string | null =>
  mark.closest(`[${name}]`)?.getAttribute(name) ?? null;
const num = (mark: Element, name: string): number => Number(mark.getAttribute(name) ?? 0);

function write(mark: Element, context: CanvasRenderingContext2D): void {
  context.font = `${get(mark, "font-weight") ?? "400"} ${get(mark, "font-size") ?? "12"}px ${get(mark, "font-family") ?? "sans-serif"}`;
  const anchor = get(mark, "text-anchor");
  context.textAlign = anchor === "middle" ? "center" : anchor === "end" ? "right" : "left";
  const text = mark.textContent ?? "";
  context.lineJoin = "round";
  if (setStroke(mark, context)) context.strokeText(text, num(mark, "x"), num(mark, "y"));
  if (setFill(mark, context)) context.fillText(text, num(mark, "x"), num(mark, "y"));
}

function trace(mark: Element, context: CanvasRenderingContext2D): void {
  const path = pathOf(mark);
  if (!path) return;
  if (setFill(mark, context)) context.fill(path);
  if (setStroke(mark, context)) context.stroke(path);
}

function pathOf(mark: Element): Path2D | null {
  const path = new Path2D(mark.getAttribute("d") ?? "");
  const at = (name: string): number => num(mark, name);
  switch (mark.tagName) {
    case "path":
      return path;
    case "line":
      path.moveTo(at("x1"), at("y1"));
      path.lineTo(at("x2"), at("y2"));
      return path;
    case "rect":
      path.rect(at("x"), at("y"), at("width"), at("height"));
      return path;
    case "circle":
      path.arc(at("cx"), at("cy"), at("r"), 0, 2 * Math.PI);
      return path;
    default:
      return null;
  }
}

function setFill(mark: Element, context: CanvasRenderingContext2D): boolean {
  const fill = get(mark, "fill") ?? "#000";
  if (fill === "none") return false;
  context.fillStyle = patternOf(fill, mark, context) ?? fill;
  context.globalAlpha = Number(mark.getAttribute("fill-opacity") ?? 1);
  return true;
}

function setStroke(mark: Element, context: CanvasRenderingContext2D): boolean {
  const stroke = get(mark, "stroke");
  if (!stroke || stroke === "none") return false;
  context.globalAlpha = 1;
  context.strokeStyle = stroke;
  context.lineWidth = Number(get(mark, "stroke-width") ?? 1);
  context.setLineDash(
    (mark.getAttribute("stroke-dasharray") ?? "").split(/[ ,]+/).filter(Boolean).map(Number),
  );
  return true;
}

/** `url(#name)` as what that pattern draws. */
function patternOf(fill: string, mark: Element, context: CanvasRenderingContext2D): CanvasPattern | null {
  const name = /^url\(#(.+)\)$/.exec(fill)?.[1];
  const pattern = name ? mark.closest("svg")?.querySelector(`[id="${name}"]`) : null;
  if (!pattern) return null;
  const scale = context.getTransform().a;
  const tile = document.createElement("canvas");
  tile.width = tile.height = num(pattern, "width") * scale;
  const inside = contextOf(tile);
  inside.scale(scale, scale);
  drawChildren(pattern, inside);
  const made = context.createPattern(tile, "repeat");
  made?.setTransform(new DOMMatrix().scale(1 / scale));
  return made;
}
