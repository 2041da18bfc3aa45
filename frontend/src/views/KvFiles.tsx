// A recording of the KV cache as files, out and in.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { saying } from "../api/client";
import type { Scene } from "../data/scene";
import { momentName } from "../data/told";
import { pngOf } from "../export/canvas";
import { download } from "../export/download";
import { eventsTable } from "../export/events";
import { pictureOf, svgText } from "../export/picture";
import { PAINTS, theme } from "../state/theme";
import { exportEvents, importEvents } from "../state/watching";

const PNG_SCALE = 2;

export function KvSave({ scene }: { scene: Scene }): JSX.Element {
  const [trouble, setTrouble] = useState("");
  const name = `pellucid-events-${exportEvents().model.replace(/[^\w.-]+/g, "-") || "model"}`;
  const ways: Readonly<Record<string, () => Promise<void> | void>> = {
    PNG: async () => download(await pngOf(picture(scene), PNG_SCALE), `${name}.png`, "image/png"),
    SVG: () => download(svgText(picture(scene)), `${name}.svg`, "image/svg+xml"),
    CSV: () => download(eventsTable(exportEvents().news), `${name}.csv`, "text/csv"),
    JSON: () => download(JSON.stringify(exportEvents()), `${name}.json`, "application/json"),
  };
  const run = (save: () => Promise<void> | void): void => {
    setTrouble("");
    Promise.resolve()
      .then(save)
      .catch((error: unknown) => setTrouble(saying(error)));
  };
  return (
    <div class="save" role="group" aria-label="Save the picture, or all events">
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

function picture(scene: Scene): SVGSVGElement {
  const chart = document.querySelector<SVGSVGElement>("svg.pool");
  if (!chart) throw new Error("There is no picture to save.");
  const { model } = exportEvents();
  const caption = `${momentName(scene)}: ${scene.numUsed} of ${scene.numBlocks} blocks in use`;
  return pictureOf(`KV cache of ${model}`, [{ caption, chart }], [], PAINTS[theme.value]);
}

export function KvImport(): JSX.Element {
  const [trouble, setTrouble] = useState("");
  const take = async (input: HTMLInputElement): Promise<void> => {
    const file = input.files?.[0];
    if (!file) return;
    try {
      importEvents(file.name, await file.text());
      setTrouble("");
    } catch (error) {
      setTrouble(`${file.name} was not opened. ${saying(error)}`);
    }
    input.value = ""; // the same file can be chosen again, mended
  };
  return (
    <div class="import">
      <label>
        <span>Open a recording of events (JSON)</span>
        <input
          type="file"
          accept=".json,application/json"
          onChange={(event) => void take(event.currentTarget)}
        />
      </label>
      {trouble && <p role="alert">{trouble}</p>}
    </div>
  );
}
