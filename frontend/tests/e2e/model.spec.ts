// The model over what was measured, and two runs part by part.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import type { Page } from "@playwright/test";
import { RECORDED, RECORDED_COUNTS, RECORDED_FIT } from "../recorded";
import { HERE, sampleRun, THERE } from "../sample";
import { violations, WINDOWS } from "./axe";
import { expect, test } from "./page";

const LIMIT = 8192; // tokens of the recorded model's context

const caption = (page: Page): ReturnType<Page["locator"]> => page.locator(".at-cursor caption");

test("a switch lays the model over the budget, and lets the cursor go on where nothing was measured", async ({
  open,
  mock,
}) => {
  mock.runs = [RECORDED];
  const page = await open();
  await expect(page.locator("[data-model]")).toHaveCount(0);
  await page.getByRole("checkbox", { name: "Model" }).focus();
  await page.keyboard.press("Space");
  await expect(page).toHaveURL(/#v=1&model=on$/);
  await expect(page.locator("[data-model=calibrated] [data-doubt=attention]")).toHaveCount(1);
  await expect(page.getByText("modelled, calibrated · lines, and all that is hatched")).toBeVisible();
  expect(mock.fits).toBe(1); // once, for the lines and for what stands beside the switches
  await expect(page.getByText(/Beyond 4,096 tokens, the longest that was measured/)).toBeVisible();

  await expect(caption(page)).toHaveText(/^A decode step at 1,024 tokens: share of the time, n \d+$/);
  const first = page.locator(".at-cursor tbody tr").first();
  await expect(first).toHaveText(/attention[\d.]+ %[\d.]+ to [\d.]+ %[\d.]+ %[\d.]+ to [\d.]+ %/);
  await expect(first.locator("[data-kind]")).toHaveCount(2);
  await expect(first.locator("[data-kind=calibrated]")).toHaveCount(1);

  const cursor = page.getByRole("slider", { name: "Length in tokens" });
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await expect(cursor).toBeFocused();
  await page.keyboard.press("End");
  await expect(cursor).toHaveAttribute(
    "aria-valuetext",
    /^8,192 tokens: attention \d+ %, .*modelled, calibrated$/,
  );
  await expect(page).toHaveURL(new RegExp(`length=${LIMIT}`));
  await expect(first.locator("[data-kind]")).toHaveCount(1);
  await expect(first.locator("[data-kind=calibrated]")).toHaveCount(1);
  await page.keyboard.press("ArrowLeft");
  await expect(cursor).toHaveAttribute("aria-valuetext", /^4,096 tokens: attention .*recorded$/);
});

test("of prompts and of whole requests too, in time too, and in every table and file", async ({
  open,
  mock,
}) => {
  mock.runs = [RECORDED];
  const page = await open("#v=1&model=on&phase=request&y=ms&length=4096");
  // Its decode steps would leave the measured ones, so that only the model tells this prompt.
  await expect(page.locator(".standing")).toContainText("modelled, calibrated · summed");
  await expect(page.locator(".at-cursor tfoot [data-kind]")).toHaveCount(1);
  await page.getByText("All lengths as a table").click();
  await expect(page.getByText(/^Run A, whole request, batch 1: .*, modelled, calibrated$/)).toBeVisible();

  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "CSV" }).click(),
  ]);
  const rows = (await readFile(await download.path(), "utf8")).trimEnd().split("\r\n");
  const modelled = rows.filter((row) => row.includes(",90 % band,0,calibrated,"));
  expect(modelled.some((row) => row.includes(`,decode,1,${LIMIT},,attention,share,`))).toBe(true);
  expect(modelled.some((row) => row.includes(",request,1,4096,128,wall,ms,"))).toBe(true);
  expect(new Set(rows.map((row) => row.split(",").length)).size).toBe(1);
});

for (const window of WINDOWS) {
  test.describe(`for everyone: ${window.viewport.width} px`, () => {
    test.use(window);
    for (const hash of [
      `&b=${THERE.id}`,
      "&y=ms&detail=stages",
      "&phase=request&length=8192",
      "&view=switches",
    ]) {
      test(hash, async ({ open, mock }) => {
        mock.runs = [RECORDED, THERE];
        const page = await open(`#v=1&model=on&a=${RECORDED.id}${hash}`);
        await expect(page.locator("[data-kind=calibrated]:visible").first()).toBeVisible();
        for (const summary of await page.locator("summary").all()) await summary.click();
        expect(await violations(page)).toEqual([]);
      });
    }
  });
}

test("goes along in the files: the picture hatched, the page with its calibration", async ({
  open,
  mock,
  browser,
}) => {
  mock.runs = [RECORDED];
  const page = await open("#v=1&model=on&length=8192");
  await expect(page.locator("[data-model]")).toHaveCount(1);
  const saved = async (name: string): Promise<string> => {
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name, exact: true }).click(),
    ]);
    const path = test.info().outputPath(download.suggestedFilename());
    await download.saveAs(path);
    return path;
  };
  const svg = await readFile(await saved("SVG"), "utf8");
  expect(svg).toContain('data-model="calibrated"');
  expect(svg).toContain("lines and hatched: modelled, calibrated");
  expect((await readFile(await saved("PNG"))).length).toBeGreaterThan(20_000);
  const context = await browser.newContext({ offline: true });
  const copy = await context.newPage();
  await copy.goto(pathToFileURL(await saved("HTML")).href);
  await expect(copy.locator("[data-model=calibrated]")).toHaveCount(1);
  await expect(copy.getByRole("slider")).toHaveAttribute(
    "aria-valuetext",
    /^8,192 tokens: .*modelled, calibrated$/,
  );
  await context.close();
});

test("a run without a calibration is not modelled, and the page says why", async ({ open, mock }) => {
  mock.runs = [RECORDED];
  mock.calibrations = [];
  const page = await open("#v=1&model=on");
  await expect(page.getByText("No model of this run: the run has 5 cells")).toBeVisible();
  await expect(page.locator("[data-model]")).toHaveCount(0);
  await expect(page.getByRole("slider")).toHaveAttribute("aria-valuetext", /recorded$/);
});

test("of two runs each has its own model", async ({ open, mock }) => {
  const twin = { ...RECORDED, id: "e7".repeat(32) };
  mock.runs = [RECORDED, twin, HERE];
  mock.calibrations = [RECORDED_FIT, { ...RECORDED_FIT, run: twin.id }];
  mock.counts = [RECORDED_COUNTS, { ...RECORDED_COUNTS, run: twin.id }];
  const page = await open(`#v=1&model=on&a=${RECORDED.id}&b=${twin.id}`);
  await expect(page.locator("[data-model]")).toHaveCount(2);
  await expect(page.getByRole("columnheader", { name: /, model$/ })).toHaveText(["A, model", "B, model"]);
  await open(`#v=1&model=on&a=${RECORDED.id}&b=${HERE.id}&length=${LIMIT}`);
  await expect(page.locator("[data-model]")).toHaveCount(1);
  await expect(page.getByText("no model", { exact: true })).toBeVisible();
});

test("between two runs stands what each part adds or saves", async ({ open }) => {
  const page = await open(`#v=1&b=${THERE.id}`);
  const chart = page.getByRole("img", {
    name: /^From A, .* to B, .* at 1,024 tokens: −.* of which attention −/,
  });
  await expect(chart).toBeVisible();
  await expect(chart.locator("[data-step]").first()).toContainText("A");
  await expect(chart.locator("[data-step]").last()).toContainText("B");
  // The picture's numbers are the table's.
  for (const part of ["attention", "matrices", "host"]) {
    const cell = page.getByRole("row", { name: part }).locator("td").nth(2);
    await expect(chart.locator(`[data-step="${part}"] text`).last()).toHaveText(
      (await cell.textContent()) ?? "?",
    );
  }
  await page.getByRole("slider").press("Home");
  await expect(page.getByRole("img", { name: /^From A, .* at 64 tokens/ })).toBeVisible();
});

test("one token is one token", async ({ open, mock }) => {
  mock.runs = [sampleRun({ id: "f6".repeat(32), seed: 5, lengths: [1, 64] })];
  const page = await open("#v=1&length=1");
  await expect(caption(page)).toHaveText("A decode step at 1 token");
  await expect(page.getByRole("slider")).toHaveAttribute("aria-valuetext", /^1 token: /);
});
