// @vitest-environment happy-dom

import { render } from "@testing-library/preact";
import { describe, expect, test, vi } from "vitest";
import { BudgetChart } from "../../src/chart/BudgetChart";
import { frameOf, scalesOf } from "../../src/chart/geometry";
import { budgetOf, type Budget } from "../../src/data/budget";
import { KINDS, type Kind } from "../../src/data/provenance";
import { PAINTS } from "../../src/state/theme";
import { stopsOf } from "../../src/data/stops";
import { budgetOfCurve } from "../../src/data/curves";
import { body } from "../calibrated";
import { HERE, sampleAnswers } from "../sample";
import { toyCurves } from "../toy";

const frame = frameOf(800);

function budget(kind: Kind): Budget {
  const found = budgetOf({ run: HERE, kind, answers: [] }, "decode", 1, "groups");
  if (!found) throw new Error("the sample has no decode cells");
  return found;
}

function draw(kind: Kind, onPick: (length: number) => void = () => undefined): Element {
  const shown = budget(kind);
  const answer = sampleAnswers(HERE, kind)[0];
  const scales = scalesOf([shown], "share", frame);
  const { container } = render(
    <BudgetChart
      budget={shown}
      model={null}
      soFar={null}
      ghost={null}
      stops={shown.columns}
      answer={answer}
      measure="share"
      length={512}
      frame={frame}
      scales={scales}
      paint={PAINTS.light}
      summary="A summary"
      onPick={onPick}
    />,
  );
  return container;
}

const attribute = (root: Element, selector: string, name: string): (string | null)[] =>
  [...root.querySelectorAll(selector)].map((found) => found.getAttribute(name));

describe("the origin of a number", () => {
  test("looks different for each kind", () => {
    const looks = KINDS.map((kind) => {
      const root = draw(kind);
      const fill = attribute(root, "path[data-part=attention]", "fill")[0];
      const point = attribute(root, "circle", "fill").at(-1);
      const hatch = attribute(root, "pattern", "width")[0] ?? null;
      const dash = attribute(root, "path[data-edge]", "stroke-dasharray")[0];
      return JSON.stringify({ solid: fill?.startsWith("#"), point, hatch, dash });
    });
    expect(new Set(looks).size).toBe(KINDS.length);
  });

  test("is told by more than colour: every band keeps its own", () => {
    const [measured, spec] = (["measured", "spec"] as const).map((kind) =>
      attribute(draw(kind), "path[data-part]", "fill"),
    );
    measured?.forEach((color, index) => expect(spec?.[index]).toBe(`url(#spec-${color?.slice(1)})`));
  });
});

test("crossings lie at the height of their share", () => {
  const root = draw("measured");
  const { y } = scalesOf([budget("measured")], "share", frame);
  expect(attribute(root, "[data-crossing] circle", "cy").map(Number)).toEqual([y(0.05), y(0.1)]);
});

test("a picture is an image with a summary, and a click picks the nearest length", () => {
  const pick = vi.fn();
  const svg = draw("measured", pick).querySelector("svg");
  expect(svg?.getAttribute("role")).toBe("img");
  expect(svg?.getAttribute("aria-label")).toBe("A summary");
  svg?.dispatchEvent(new MouseEvent("click", { clientX: frame.right, bubbles: true }));
  expect(pick).toHaveBeenCalledWith(4096);
});

describe("the model over a budget", () => {
  const measured = budget("measured");
  const lengths = measured.columns.map(({ length }) => length);
  const curves = toyCurves(body({ lengths }));
  const whole = budgetOfCurve(curves, curves.curves[0]!, "groups");
  const model = { ...whole, columns: whole.columns.filter(({ length }) => length >= 64) };
  const stops = stopsOf(measured, model);

  test.each(["share", "ms"] as const)("is lines and hatches, never a solid fill: %s", (measure) => {
    const scales = scalesOf([measured, model], measure, frame);
    const { container } = render(
      <BudgetChart
        budget={measured}
        model={model}
        soFar={null}
        ghost={null}
        stops={stops}
        answer={undefined}
        measure={measure}
        length={8192}
        frame={frame}
        scales={scales}
        paint={PAINTS.light}
        summary="A summary"
        onPick={() => undefined}
      />,
    );
    const solid = attribute(container, "path[data-part]", "fill").filter((fill) => fill?.startsWith("#"));
    expect(solid).toHaveLength(measured.parts.length);
    const hatched = attribute(container, "path[data-part]", "fill").filter((fill) => fill?.startsWith("url"));
    expect(hatched).toHaveLength(model.parts.length);
    for (const fill of [...hatched, ...attribute(container, "[data-doubt]", "fill")])
      expect(fill).toMatch(/^url\(#calibrated-/);
    expect(attribute(container, "[data-border]", "data-border")).toEqual(
      model.parts.slice(0, -1).map(({ key }) => key),
    );
    for (const d of attribute(container, "[data-model] path", "d")) expect(d).not.toMatch(/NaN|Infinity/);
  });
});

describe("what was there before", () => {
  const now = budget("measured");
  const curves = toyCurves(body());
  const ghost = budgetOfCurve(curves, curves.curves[0]!, "groups");

  test.each([
    ["share", 1],
    ["ms", 2],
  ] as const)("is outlines alone, never filled: %s", (measure, outlines) => {
    const scales = scalesOf([now, ghost], measure, frame);
    const { container } = render(
      <BudgetChart
        budget={now}
        model={null}
        soFar={null}
        ghost={ghost}
        stops={now.columns}
        answer={undefined}
        measure={measure}
        length={512}
        frame={frame}
        scales={scales}
        paint={PAINTS.light}
        summary="A summary"
        onPick={() => undefined}
      />,
    );
    const own = "[data-ghost] path[stroke-dasharray]";
    expect(attribute(container, own, "d")).toHaveLength(outlines);
    expect(attribute(container, "[data-ghost]", "fill")).toEqual(["none"]);
    expect(attribute(container, "[data-ghost] path", "fill")).toEqual(Array(2 * outlines).fill(null));
    for (const d of attribute(container, own, "d")) expect(d).not.toMatch(/NaN|Infinity/);
  });
});
