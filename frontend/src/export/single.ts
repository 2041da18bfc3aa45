// The page and its runs in one file that asks nobody for anything: its own policy forbids it to.

import type { Loaded } from "../data/budget";
import { asRecorded } from "../data/answers";
import { calibrations } from "../state/calibration";
import { counts } from "../state/counts";
import { answersKept } from "../state/curves";
import { DATA_ID, type Embedded } from "../state/embedded";

const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'";

export async function singleFile(title: string, runs: readonly Loaded[], hash: string): Promise<string> {
  const [script, style] = await Promise.all([
    sourceOf('script[type="module"]'),
    sourceOf('link[rel="stylesheet"], style'),
  ]);
  const [fits, counted] = await Promise.all([
    Promise.all(runs.map(({ run }) => calibrations.settled(run))),
    Promise.all(runs.map(({ run }) => counts.settled(run))),
  ]);
  const data: Embedded = {
    runs: runs.map(elsewhere),
    calibrations: fits.filter((fit) => fit !== null),
    counts: counted.filter((found) => found !== null),
    curves: answersKept(),
    hash,
  };
  return [
    "<!doctype html>",
    '<html lang="en">',
    '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
    `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`,
    `<title>${escaped(title)}</title>`,
    `<style>${style.replaceAll("</style", "<\\/style")}</style>`,
    `<script id="${DATA_ID}" type="application/json">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>`,
    "</head>",
    '<body><div id="app"></div>',
    `<script type="module">${script.replaceAll("</script", "<\\/script")}</script>`,
    "</body></html>\n",
  ].join("\n");
}

/** Whoever opens the file did not measure it. */
function elsewhere({ run, kind, answers }: Loaded): Loaded {
  return { run, kind: kind === "measured" ? "recorded" : kind, answers: answers.map(asRecorded) };
}

/** What this very page runs: by its address, or from inside it if this is such a file already. */
async function sourceOf(selector: string): Promise<string> {
  const found = document.querySelector(selector);
  const address = found?.getAttribute("src") ?? found?.getAttribute("href");
  if (!found) throw new Error("This page cannot find its own sources.");
  if (!address) return found.textContent ?? "";
  const response = await fetch(new URL(address, document.baseURI));
  if (!response.ok) throw new Error(`This page cannot read its own sources (${response.status}).`);
  return response.text();
}

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
