// How well the model predicts: the figures, the picture and their words, with and without a fit.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { RECORDED, RECORDED_FIT } from "../recorded";
import { HERE } from "../sample";
import { expect, test } from "./page";
import { violations, WINDOWS } from "./axe";

const { report } = RECORDED_FIT;
const VALIDATION = `#v=1&a=${RECORDED.id}&view=validation`;

test.beforeEach(({ mock }) => {
  mock.runs = [RECORDED, HERE];
  mock.kind = "recorded";
});

test("errors stand beside their goals, met or not", async ({ open, mock }) => {
  const page = await open(VALIDATION);
  const errors = page.getByRole("region", { name: "Errors" });
  const found = `${(100 * report.stage_error.median).toFixed(1)} %`;
  const came = report.stage_error.median <= 0.15 ? "met" : "not met";
  await expect(errors.getByRole("row", { name: /time of a stage/ })).toHaveText(
    new RegExp(`${found}${came}≤ 15 %$`),
  );
  const crossovers = page.getByRole("region", { name: "Crossovers" });
  const shares = { s05: "5 %", s10: "10 %", s50: "50 %" };
  for (const { phase, level, ratio } of report.crossover) {
    const far = ratio === null || Math.max(ratio, 1 / ratio) > 1.25;
    await expect(
      crossovers.getByRole("row", { name: new RegExp(`^${shares[level]} of ${phase}`) }),
    ).toHaveText(far ? /not (met|comparable)/ : /×met/);
  }
  for (const cell of await page.locator(".errors tbody td:nth-of-type(1)").all())
    await expect(cell).toHaveAttribute("data-kind", "calibrated");
  expect(mock.fits).toBe(1);
});

test("the picture holds what the table holds", async ({ open }) => {
  const page = await open(VALIDATION);
  await page.getByText("All stages of all cells as a table").click();
  const rows = page.getByRole("region", { name: "All stages of all cells" }).locator("tbody tr");
  const marks = page.locator("svg.chart [data-mark]");
  await expect(marks).toHaveCount(await rows.count());
  const aside = await page.locator("svg.chart [data-mark=aside]").count();
  await expect(rows.filter({ hasText: /judge$/ })).toHaveCount(aside);
  await expect(
    page.getByRole("img", { name: /Modelled against measured times of \d+ stages/ }),
  ).toBeVisible();
  await expect(page.locator(".covered")).toContainText(/Within it lie \d+ of \d+ \(\d+ %\) stage times/);
});

test("no mouse is needed, and the Back button leads back", async ({ open }) => {
  const page = await open(`#v=1&a=${RECORDED.id}`);
  await page.getByRole("link", { name: "How well the model predicts this run" }).press("Enter");
  await expect(page).toHaveURL(/view=validation/);
  await expect(page.getByRole("heading", { name: "How well the model predicts" })).toBeVisible();
  await page.goBack();
  await page.getByRole("tab", { name: "Budget" }).press("ArrowRight");
  await expect(page.getByRole("tab", { name: "Validation" })).toBeFocused();
  const summary = page.getByText("All stages of all cells as a table");
  await summary.focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("region", { name: "All stages of all cells" })).toBeVisible();
});

test("a run that was refused says why, and nothing takes its place", async ({ open }) => {
  const page = await open(`#v=1&a=${HERE.id}&view=validation`);
  await expect(
    page.getByText(/has no calibration: the run has 5 cells, and calibrating needs 6/),
  ).toBeVisible();
  await expect(page.locator("svg.chart")).toHaveCount(0);
});

test("two runs are judged one below the other", async ({ open }) => {
  const page = await open(`${VALIDATION}&b=${HERE.id}`);
  await expect(page.getByRole("heading", { name: /^A: smollm2/ })).toBeVisible();
  await expect(page.getByRole("heading", { name: /^B: smollm2/ })).toBeVisible();
  await expect(page.getByText(/has no calibration/)).toHaveCount(1);
});

test("a calibration is imported like a run, and the server is not asked", async ({ open, mock }) => {
  mock.calibrations = [];
  const page = await open(`#v=1&a=${RECORDED.id}&view=runs`);
  await page.getByLabel("Import a run file").setInputFiles({
    name: "machine.json",
    mimeType: "application/json",
    buffer: Buffer.from(JSON.stringify(RECORDED_FIT)),
  });
  await expect(
    page.getByText(`machine.json is here as the calibration of run ${RECORDED.id.slice(0, 8)}.`),
  ).toBeVisible();
  await page.getByRole("tab", { name: "Validation" }).click();
  await expect(page.locator("svg.chart")).toBeVisible();
  expect(mock.fits).toBe(0);
  await page.getByRole("tab", { name: "Runs" }).click();
  await page.getByLabel("Import a run file").setInputFiles({
    name: "broken.json",
    mimeType: "application/json",
    buffer: Buffer.from(JSON.stringify({ ...RECORDED_FIT, report: {} })),
  });
  await expect(page.getByRole("alert")).toContainText(
    "broken.json was not imported. report.num_fitted is missing",
  );
});

test("a saved copy holds the calibration and both views without a server", async ({ open, browser }) => {
  const page = await open(`#v=1&a=${RECORDED.id}`);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "HTML", exact: true }).click(),
  ]);
  const path = test.info().outputPath("copy.html");
  await download.saveAs(path);
  const context = await browser.newContext({ offline: true });
  const copy = await context.newPage();
  await copy.goto(pathToFileURL(path).href);
  await copy.getByRole("tab", { name: "Validation" }).click();
  await expect(copy.getByRole("region", { name: "Errors" })).toBeVisible();
  await expect(copy.locator("svg.chart [data-mark=aside]").first()).toBeVisible();
  await copy.getByRole("tab", { name: "Roofline" }).click();
  await expect(copy.locator("svg.chart [data-roof=recorded]")).toBeVisible();
  await expect(copy.getByRole("tab", { name: "Chat" })).toHaveCount(0);
  await context.close();
});

test("the picture and its figures are saved", async ({ open }) => {
  const page = await open(VALIDATION);
  const save = async (name: string): Promise<string> => {
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name, exact: true }).click(),
    ]);
    const path = test.info().outputPath(download.suggestedFilename());
    await download.saveAs(path);
    return path;
  };
  const svg = await readFile(await save("SVG"), "utf8");
  expect(svg).toContain(`run ${RECORDED.id.slice(0, 8)}`);
  expect(svg).not.toMatch(/var\(|style=/);
  const rows = (await readFile(await save("CSV"), "utf8")).trimEnd().split("\r\n");
  expect(rows.length - 1).toBe(await page.locator("svg.chart [data-mark]").count());
  expect((await readFile(await save("PNG"))).subarray(1, 4).toString()).toBe("PNG");
});

for (const window of WINDOWS) {
  test.describe(`${window.viewport.width} px`, () => {
    test.use(window);
    for (const { id } of [RECORDED, HERE]) {
      test(`nothing stands in a reader's way, run ${id.slice(0, 4)}`, async ({ open }) => {
        const page = await open(`#v=1&a=${id}&view=validation`);
        await expect(page.locator(id === HERE.id ? ".empty" : "svg.chart")).toBeVisible();
        for (const summary of await page.locator("summary").all()) await summary.click();
        expect(await violations(page)).toEqual([]);
      });
    }
  });
}
