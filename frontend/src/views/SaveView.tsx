// A view of attention as files: its picture, its numbers as rows, and all that the engine said of it.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { saying } from "../api/client";
import { small as inSmall, type Attention } from "../data/attention";
import { pngOf } from "../export/canvas";
import { csvOf, type Cell } from "../export/csv";
import { download } from "../export/download";
import { pictureOf, svgText } from "../export/picture";
import { text } from "../state/looking";
import { capabilities, modelName } from "../state/server";
import { PAINTS, theme } from "../state/theme";

const PNG_SCALE = 2;

interface Props {
  /** What the file is called after: "attention". */
  readonly what: string;
  readonly view: Attention;
  readonly title: string;
  readonly figure: () => Element | null;
  /** Header first. */
  readonly rows: () => readonly (readonly Cell[])[];
}

export function SaveView(props: Props): JSX.Element {
  const { what, view, rows } = props;
  const [trouble, setTrouble] = useState("");
  const run = (save: () => Promise<void> | void): void => {
    setTrouble("");
    Promise.resolve()
      .then(save)
      .catch((error: unknown) => setTrouble(saying(error)));
  };
  const name = `pellucid-${what}-${modelName.value.replace(/[^\w.-]+/g, "-")}-layer${view.layer}-head${view.head}`;
  const whole = (): string =>
    JSON.stringify({
      model: modelName.value,
      machine: capabilities.value?.device,
      text: text.value,
      ...view,
    });
  const ways = {
    PNG: async () => download(await pngOf(picture(props), PNG_SCALE), `${name}.png`, "image/png"),
    SVG: () => download(svgText(picture(props)), `${name}.svg`, "image/svg+xml"),
    CSV: () => download(csvOf(rows()), `${name}.csv`, "text/csv"),
    JSON: () => download(whole(), `${name}.json`, "application/json"),
  };
  return (
    <div class="save" role="group" aria-label={`Save the ${what} view`}>
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

function picture({ figure, title, view }: Props): SVGSVGElement {
  const chart = figure()?.querySelector<SVGSVGElement>("svg.chart");
  if (!chart) throw new Error("There is no chart to save.");
  const { backend, device, dtype, difference } = view;
  const origin = `${modelName.value} · ${capabilities.value?.device ?? ""} · recomputed in float32, largest difference to ${backend} on ${device} in ${dtype}: ${inSmall(difference.head)}`;
  const words = text.value.length > 300 ? `${text.value.slice(0, 300)} …` : text.value;
  return pictureOf(title, [{ caption: words, chart }], [origin], PAINTS[theme.value]);
}

/** The matrix as rows: tokens or tiles of tokens, counted from 1. */
export function rowsOf({ matrix, tokens, num_tokens }: Attention): Cell[][] {
  const { edge, max, mean } = matrix;
  const name = (cell: number): string => (edge === 1 ? (tokens[cell]?.text ?? "") : "");
  const ends = (cell: number): Cell[] => [cell * edge + 1, Math.min((cell + 1) * edge, num_tokens)];
  const header = [
    "query_from",
    "query_to",
    "query",
    "key_from",
    "key_to",
    "key",
    "weight_max",
    "weight_mean",
  ];
  const rows = max.flatMap((weights, query) =>
    weights.map((weight, key) => [
      ...ends(query),
      name(query),
      ...ends(key),
      name(key),
      weight,
      mean?.[query]?.[key] ?? weight,
    ]),
  );
  return [header, ...rows];
}
