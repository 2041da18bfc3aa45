// What is shown, as a file.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { saying } from "../api/client";
import { originOf, SCOPE_WORDS, type Budget, type Loaded } from "../data/budget";
import { KIND_WORDS } from "../data/provenance";
import { inTokens, short } from "../data/words";
import { pngOf } from "../export/canvas";
import { download } from "../export/download";
import { pictureOf, svgText, type Plate } from "../export/picture";
import { singleFile } from "../export/single";
import { tidy } from "../export/tidy";
import { encode } from "../state/link";
import { link } from "../state/navigation";
import { deviceOf } from "../state/runs";
import { setOf, setting } from "../state/setting";
import { PAINTS, theme } from "../state/theme";
import { modelOver, settledModels, type Side } from "../state/sides";

const PNG_SCALE = 2;

type Save = (sides: readonly Side[]) => Promise<void> | void;

const WAYS: readonly { readonly name: string; readonly save: Save }[] = [
  {
    name: "PNG",
    save: async (sides) =>
      download(await pngOf(picture(sides), PNG_SCALE), nameOf(sides, "png"), "image/png"),
  },
  { name: "SVG", save: (sides) => download(svgText(picture(sides)), nameOf(sides, "svg"), "image/svg+xml") },
  {
    name: "CSV",
    save: async (sides) =>
      download(
        await tidy(
          sides.map(({ loaded }) => loaded),
          link.value.output,
          (loaded, budgets) => modelsOf(sides, loaded, budgets),
        ),
        nameOf(sides, "csv"),
        "text/csv",
      ),
  },
  { name: "HTML", save: async (sides) => download(await html(sides), nameOf(sides, "html"), "text/html") },
];

/** All that is modelled beside a run's cells: what is drawn over them, and in their place. */
async function modelsOf(
  sides: readonly Side[],
  loaded: Loaded,
  budgets: readonly Budget[],
): Promise<Budget[]> {
  await settledModels(loaded, budgets);
  const over = budgets.flatMap((budget) => modelOver(loaded, budget, "stages") ?? []);
  const instead = sides.filter((side) => side.loaded === loaded && !side.isMeasured);
  return [...over, ...instead.map(({ budget }) => budget)];
}

export function SaveAs({ sides }: { sides: readonly Side[] }): JSX.Element {
  const [trouble, setTrouble] = useState("");
  const run = (save: () => Promise<void> | void): void => {
    setTrouble("");
    Promise.resolve()
      .then(save)
      .catch((error: unknown) => setTrouble(saying(error)));
  };
  return (
    <div class="save" role="group" aria-label="Save what is shown">
      <span class="note">Save as</span>
      {WAYS.map(({ name, save }) => (
        <button key={name} type="button" class="quiet" onClick={() => run(() => save(sides))}>
          {name}
        </button>
      ))}
      {sides.map((side) => (
        <button key={side.name} type="button" class="quiet" onClick={() => run(() => runFile(side))}>
          {sides.length > 1 ? `Run file ${side.name}` : "Run file"}
        </button>
      ))}
      {trouble && <span role="alert">{trouble}</span>}
    </div>
  );
}

const runFile = (side: Side): void =>
  download(`${JSON.stringify(side.loaded.run)}\n`, nameOf([side], "json"), "application/json");

const sentence = (sides: readonly Side[]): string =>
  sides[0]?.answer?.sentence ?? `Where the time of ${SCOPE_WORDS[sides[0]?.budget.phase ?? "decode"]} goes`;

/** The page as it is now, with the runs' ids and the switches of the engine in its address: the file
 * has no "newest" and no engine. */
function html(sides: readonly Side[]): Promise<string> {
  const [a, b] = sides.map(({ loaded }) => loaded.run.id);
  const now = setting.value;
  const set = !now || sides[0]?.isMeasured ? "" : setOf(now.switches, now);
  return singleFile(
    sentence(sides),
    sides.map(({ loaded }) => loaded),
    encode({ ...link.value, view: link.value.view, a: a ?? "", b: b ?? "", set }),
  );
}

function picture(sides: readonly Side[]): SVGSVGElement {
  const charts = [...document.querySelectorAll<SVGSVGElement>("svg.chart")];
  const plates = sides.flatMap(({ name, budget, model }, index): Plate[] => {
    const chart = charts[index];
    const what = `${sides.length > 1 ? `${name}: ` : ""}${nounOf(budget)}, batch ${budget.batch}, ${originOf(budget)}${model ? `; lines and hatched: ${originOf(model)}` : ""}`;
    return chart ? [{ caption: what, chart }] : [];
  });
  const between = document.querySelector<SVGSVGElement>("svg.waterfall");
  if (between) plates.push({ caption: between.getAttribute("aria-label") ?? "", chart: between });
  return pictureOf(sentence(sides), plates, sides.map(origin), PAINTS[theme.value]);
}

function nounOf({ phase }: Budget): string {
  return phase === "request" ? `whole request, ${inTokens(link.value.output, "output")}` : phase;
}

function origin({ name, loaded: { run, kind } }: Side): string {
  const { date, commit } = run.environment;
  return `${name}: ${KIND_WORDS[kind]} · ${run.model.name} · ${deviceOf(run)} · ${date} · commit ${commit} · run ${short(run.id)}`;
}

function nameOf(sides: readonly Side[], ending: string): string {
  const runs = sides.map(
    ({ loaded: { run } }) => `${run.model.name.replace(/[^\w.-]+/g, "-")}-${short(run.id)}`,
  );
  return `pellucid-${runs.join("-")}.${ending}`;
}
