// axe-core, run inside the page.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults, RunOptions } from "axe-core";
import { test, type Page } from "@playwright/test";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES: RunOptions = {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  resultTypes: ["violations"], // of all else axe would describe every element too
};

interface WithAxe {
  readonly axe: { run(options: RunOptions): Promise<AxeResults> };
}

/** A wide window and a phone's. One opens in the light, one in the dark: `violations` looks at both. */
export const WINDOWS = [
  { viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  { viewport: { width: 400, height: 900 }, colorScheme: "dark" },
] as const;

/**
 * What axe finds in each theme, and whether the page is wider than its window.
 *
 * The page follows its system's theme, so it need not be opened twice; it keeps the second one.
 */
export async function violations(page: Page): Promise<string[]> {
  const dark = await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches);
  const found: string[] = [];
  for (const colorScheme of dark ? (["dark", "light"] as const) : (["light", "dark"] as const))
    await test.step(colorScheme, async () => {
      await page.emulateMedia({ colorScheme });
      found.push(...(await violationsNow(page)).map((line) => `${colorScheme}: ${line}`));
    });
  return found;
}

async function violationsNow(page: Page): Promise<string[]> {
  const there = await page.evaluate(() => "axe" in window);
  if (!there) await page.evaluate(AXE); // by the debugger, which the page's policy does not bind
  await colorsRest(page);
  const results = await page.evaluate((rules) => (window as unknown as WithAxe).axe.run(rules), RULES);
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  const found = results.violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html }) => `${id}: ${html.slice(0, 120)}`),
  );
  return overflow > 0 ? [...found, `the page is ${overflow} pixels too wide`] : found;
}

/** Charts are painted anew a frame later, and a colour that fades has any contrast on its way. */
async function colorsRest(page: Page): Promise<void> {
  await page.evaluate(async () => {
    for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
    const fading = document.getAnimations().filter((each) => each instanceof CSSTransition);
    await Promise.allSettled(fading.map(({ finished }) => finished));
  });
}
