// What the scheduler told of some requests over a small pool; see tests/golden/make_events.py.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { EventsFile } from "../src/data/news";

interface Recorded {
  readonly file: EventsFile;
  /** Beside each event: block → the sequences that hold it. */
  readonly owners: readonly Readonly<Record<string, readonly number[]>>[];
}

const FILE = join(dirname(fileURLToPath(import.meta.url)), "golden/events.json");

export const RECORDINGS = JSON.parse(readFileSync(FILE, "utf8")) as Record<"small" | "recompute", Recorded>;
