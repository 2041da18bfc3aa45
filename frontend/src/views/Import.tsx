// A run file from somewhere else: what came of it is said in words, good or bad.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { saying } from "../api/client";
import { short } from "../data/words";
import { importText } from "../state/runs";

export function Import(): JSX.Element {
  const [said, setSaid] = useState<{ readonly good: boolean; readonly text: string } | null>(null);
  const take = async (input: HTMLInputElement): Promise<void> => {
    const file = input.files?.[0];
    if (!file) return;
    try {
      const run = await importText(await file.text());
      setSaid({ good: true, text: `${file.name} is here as run ${short(run.id)}.` });
    } catch (error) {
      setSaid({ good: false, text: `${file.name} was not imported. ${saying(error)}` });
    }
    input.value = ""; // the same file can be chosen again, mended
  };
  return (
    <div class="import">
      <label>
        <span>Import a run file</span>
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
