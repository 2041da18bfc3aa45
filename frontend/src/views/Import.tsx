// A run file or a calibration from somewhere else: what came of it is said in words, good or bad.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { saying } from "../api/client";
import { looksCalibrated } from "../data/calibration";
import { parse } from "../data/fields";
import { short } from "../data/words";
import { importCalibration } from "../state/calibration";
import { importText, loaded } from "../state/runs";

export function Import(): JSX.Element {
  const [said, setSaid] = useState<{ readonly good: boolean; readonly text: string } | null>(null);
  const take = async (input: HTMLInputElement): Promise<void> => {
    const file = input.files?.[0];
    if (!file) return;
    try {
      setSaid({ good: true, text: `${file.name} is here as ${await taken(await file.text())}.` });
    } catch (error) {
      setSaid({ good: false, text: `${file.name} was not imported. ${saying(error)}` });
    }
    input.value = ""; // the same file can be chosen again, mended
  };
  return (
    <div class="import">
      <label>
        <span>Import a run file, or its calibration</span>
        <input
          type="file"
          accept=".json,application/json"
          onChange={(event) => void take(event.currentTarget)}
        />
      </label>
      {said && <p role={said.good ? "status" : "alert"}>{said.text}</p>}
    </div>
  );
}

/** What the file is now, in words. */
async function taken(text: string): Promise<string> {
  if (!looksCalibrated(parse(text))) return `run ${short((await importText(text)).id)}`;
  const { run } = importCalibration(text);
  const lacking = loaded.value.has(run) ? "" : "; that run is not here yet";
  return `the calibration of run ${short(run)}${lacking}`;
}
