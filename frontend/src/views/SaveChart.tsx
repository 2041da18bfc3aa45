// A chart of the model and its figures, as files.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { saying } from "../api/client";
import { KIND_WORDS } from "../data/provenance";
import type { Loaded } from "../data/budget";
import { short } from "../data/words";
import { pngOf } from "../export/canvas";
import { csvOf, type Cell } from "../export/csv";
import { download } from "../export/download";
import { pictureOf, svgText } from "../export/picture";
import { deviceOf } from "../state/runs";
import { PAINTS, theme } from "../state/theme";

const PNG_SCALE = 2;

interface Props {
  /** What the file is called after: "roofline". */
  readonly what: string;
  readonly loaded: Loaded;
  readonly title: string;
  readonly caption: string;
  /** The element that holds the chart. */
  readonly figure: () => Element | null;
  /** Header first. */
  readonly rows: () => readonly (readonly Cell[])[];
}

export function SaveChart(props: Props): JSX.Element {
  const { what, loaded, rows } = props;
  const [trouble, setTrouble] = useState("");
  const run = (save: () => Promise<void> | void): void => {
    setTrouble("");
    Promise.resolve()
      .then(save)
      .catch((error: unknown) => setTrouble(saying(error)));
  };
  const name = `pellucid-${what}-${loaded.run.model.name.replace(/[^\w.-]+/g, "-")}-${short(loaded.run.id)}`;
  const ways = {
    PNG: async () => download(await pngOf(picture(props), PNG_SCALE), `${name}.png`, "image/png"),
    SVG: () => download(svgText(picture(props)), `${name}.svg`, "image/svg+xml"),
    CSV: () => download(csvOf(rows()), `${name}.csv`, "text/csv"),
  };
  return (
    <div class="save" role="group" aria-label={`Save the ${what} of run ${short(loaded.run.id)}`}>
      <span class="note">Save as</span>
      {Object.entries(ways).map(([way, save]) => (
        <button key={way} type="button" class="quiet" onClick={() => run(save)}>
          {way}
        </button>
      ))}
      {trouble && <span role="alert">{trouble}</span>}
    </div>
  );
}

function picture({ figure, title, caption, loaded: { run, kind } }: Props): SVGSVGElement {
  const chart = figure()?.querySelector<SVGSVGElement>("svg.chart");
  if (!chart) throw new Error("There is no chart to save.");
  const { date, commit } = run.environment;
  const origin = `${KIND_WORDS[kind]} · ${run.model.name} · ${deviceOf(run)} · ${date} · commit ${commit} · run ${short(run.id)}`;
  return pictureOf(title, [{ caption, chart }], [origin], PAINTS[theme.value]);
}
