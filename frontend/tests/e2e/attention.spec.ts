// What a head looks at, and flash attention tile by tile: every control, by keys and by mouse.

import { readFile } from "node:fs/promises";
import type { Page } from "@playwright/test";
import { lookedAt, tokensOf } from "../looked";
import { violations } from "./axe";
import { expect, test } from "./page";

const TEXT = "The cat sat on the mat and the cat slept there all day long";
const TO_TEXT = `&text=${encodeURIComponent(TEXT)}`;
const LONG = Array.from({ length: 300 }, (_, n) => `word${n}`).join(" ");

async function save(page: Page, name: string): Promise<string> {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name, exact: true }).click(),
  ]);
  const path = test.info().outputPath(download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

const query = (page: Page) => page.getByRole("slider", { name: "Query token" });

test("a sentence is there without a click, and a text of one's own takes its place", async ({
  open,
  mock,
}) => {
  const page = await open("#v=1&view=attention");
  const field = page.getByRole("textbox", { name: "Text" });
  await expect(field).toHaveValue(/^When Mary and John/);
  await expect(
    page.getByText(/Largest difference to the kernel that ran \(flash on cpu, float32\): 1\.2 × 10⁻⁷/),
  ).toBeVisible();
  await expect(page.getByText("not by themselves an explanation")).toBeVisible();
  await field.fill(TEXT);
  await field.press("Enter");
  await expect(page.getByText("14 tokens, of 512 at most.")).toBeVisible();
  await expect(page).toHaveURL(/text=The%20cat/);
  await field.fill("one two");
  await page.getByRole("button", { name: "Look" }).click();
  await expect(page.getByRole("heading", { name: "2 × 2 = 4 scores" })).toBeVisible();
  expect(mock.looks.map(({ thumbnails }) => thumbnails)).toEqual([true, true, true]);
});

test("a long text stays in the page, and is shown in tiles", async ({ open }) => {
  const page = await open("#v=1&view=attention");
  await page.getByRole("textbox", { name: "Text" }).fill(LONG);
  await page.getByRole("button", { name: "Look" }).click();
  await expect(page.getByText("300 tokens, of 512 at most.")).toBeVisible();
  expect(page.url()).not.toContain("word");
  await page.getByRole("radio", { name: "mean" }).check();
  await expect(page).toHaveURL(/cells=mean/);
  await expect(page.getByText("A bar stands for 2 tokens.")).toBeVisible();
  expect(await violations(page)).toEqual([]);
});

test("what is too long is refused in words", async ({ open }) => {
  const page = await open("#v=1&view=attention");
  await page.getByRole("textbox", { name: "Text" }).fill(`${LONG} ${LONG}`);
  await page.getByRole("button", { name: "Look" }).click();
  await expect(page.getByRole("alert")).toHaveText("the text has too many tokens: shorten it");
});

test("the heads are one stop for Tab, and arrows choose among them", async ({ open, mock }) => {
  const page = await open(`#v=1&view=attention&layer=3&head=2${TO_TEXT}`);
  const grid = page.getByRole("grid", { name: "Heads by layer" });
  await expect(grid.getByRole("gridcell")).toHaveCount(270);
  const chosen = grid.locator('[aria-selected="true"]');
  await expect(chosen).toHaveAccessibleName("Layer 3, head 2: 50 % on the first token");
  await chosen.focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  await expect(grid.getByRole("gridcell", { name: "Layer 4, head 3:" })).toBeFocused();
  await expect(page.getByRole("heading", { name: "Layer 4, head 3" })).toBeVisible();
  await page.keyboard.press("Home");
  await page.keyboard.press("PageUp");
  await expect(page.getByRole("heading", { name: "Layer 0, head 0" })).toBeVisible();
  await page.keyboard.press("End");
  await page.keyboard.press("PageDown");
  await expect(page).toHaveURL(/head=8&layer=29/);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("combobox", { name: "Layer" })).toBeFocused();
  await page.getByRole("combobox", { name: "Head" }).selectOption("6");
  await expect(page.getByText("It reads from KV head 2, which serves 3 query heads.")).toBeVisible();
  await grid.getByRole("gridcell", { name: "Layer 7, head 1:" }).click();
  await expect(page.getByRole("heading", { name: "Layer 7, head 1" })).toBeVisible();
  // Small pictures are made for a text, not for each head.
  expect(mock.looks.filter(({ thumbnails }) => thumbnails)).toHaveLength(1);
});

test("the query moves by slider, by mouse, and by a click into the text", async ({ open, page }) => {
  await open(`#v=1&view=attention${TO_TEXT}`);
  await expect(query(page)).toHaveAttribute("aria-valuetext", /^token 14 “␣long”: \d+\.\d % on /);
  await query(page).press("ArrowLeft");
  await expect(page).toHaveURL(/query=13/);
  await expect(page.getByRole("caption").filter({ hasText: "takes most from" })).toHaveText(
    "13 “␣day” takes most from",
  );
  const chart = page.locator("svg.matrix");
  await chart.hover({ position: { x: 60, y: 20 } });
  await expect(query(page)).toHaveValue("1");
  await page.mouse.move(5, 5);
  await expect(query(page)).toHaveValue("13");
  await chart.click({ position: { x: 60, y: 45 } });
  await expect(page).toHaveURL(/query=2&/);
  await page.locator(".strip span", { hasText: "mat" }).click();
  await expect(query(page)).toHaveValue("6");
});

test("the tables say what the engine said", async ({ open, page }) => {
  await open(`#v=1&view=attention&layer=2&head=1&query=9${TO_TEXT}`);
  const view = lookedAt({ text: TEXT, layer: 2, head: 1 });
  const [place, weight] = view?.top[8]?.[0] ?? [0, 0];
  const row = page.locator(".top-keys tbody tr").first();
  await expect(row).toContainText(`${place + 1} “`);
  await expect(row).toContainText(`${8 - place}${(100 * weight).toFixed(1)} %`);
  await page.getByText("Weight by distance as a table").click();
  await expect(page.locator(".mass-figure tbody tr")).toHaveCount(5);
  await page.getByText("Scores by length as a table").click();
  await expect(page.getByRole("region", { name: "Scores by length" }).locator("tbody tr")).toHaveCount(5);
  await expect(page.getByRole("heading", { name: "14 × 14 = 196 scores" })).toBeVisible();
  await expect(
    page.getByText(/If the text were 4,096 tokens, the heads of one layer would write 604 MB/),
  ).toBeVisible();
});

test("what a window hides is hatched, and said", async ({ open, page }) => {
  await open(`#v=1&view=attention&layer=5${TO_TEXT}`);
  await expect(page.getByText("sees the last 6 tokens, itself included")).toBeVisible();
  await expect(page.locator(".strip .unseen")).toHaveCount(8);
  await expect(page.locator('svg.matrix [data-part="unseen"]')).toHaveAttribute("fill", "url(#unseen)");
});

test("PNG, SVG, CSV and JSON hold the head that is shown", async ({ open, page }) => {
  await open(`#v=1&view=attention&layer=2&head=1${TO_TEXT}`);
  await expect(page.getByRole("heading", { name: "Layer 2, head 1" })).toBeVisible();
  expect((await readFile(await save(page, "PNG"))).subarray(1, 4).toString()).toBe("PNG");
  const svg = await readFile(await save(page, "SVG"), "utf8");
  const broken = await page.evaluate(
    (source) =>
      new DOMParser().parseFromString(source, "image/svg+xml").querySelector("parsererror") !== null,
    svg,
  );
  expect(broken).toBe(false);
  expect(svg).not.toMatch(/var\(|style=/);
  const rows = (await readFile(await save(page, "CSV"), "utf8")).trimEnd().split("\r\n");
  expect(rows).toHaveLength(1 + (14 * 15) / 2);
  const ofLast = rows.filter((row) => row.startsWith("14,14,")).map((row) => Number(row.split(",").at(-1)));
  expect(ofLast.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 6);
  const json = JSON.parse(await readFile(await save(page, "JSON"), "utf8")) as Record<string, unknown>;
  expect(json).toMatchObject({ model: "smollm2", text: TEXT, layer: 2, head: 1, tokens: tokensOf(TEXT) });
});

test("flash: tiles are taken one by one, by slider, or on their own", async ({ open, page }) => {
  await open(`#v=1&view=flash${TO_TEXT}`);
  await expect(page.getByText("16 tiles: 10 computed; skipped: 6 behind the diagonal")).toBeVisible();
  const slider = page.getByRole("slider", { name: "Tile" });
  await expect(slider).toHaveAttribute(
    "aria-valuetext",
    /^tile 1 of 10: queries 1–4, keys 1–4; .* written out$/,
  );
  await expect(page.getByText("there was nothing before it to correct")).toBeVisible();
  await expect(page.getByRole("button", { name: "Back" })).toHaveAttribute("aria-disabled", "true");
  await page.getByRole("button", { name: "Next" }).click();
  await expect(page.getByText("Queries 5–8 meet keys 1–4.")).toBeVisible();
  await page.getByRole("button", { name: "Back" }).click();
  await slider.press("End");
  await expect(page).toHaveURL(/step=9/);
  await expect(page.locator('[data-tile="done"]')).toHaveCount(9);
  await expect(page.locator('[data-tile="after"]')).toHaveCount(6);
  await page.getByRole("button", { name: "Play" }).click(); // from the beginning
  await expect(page).toHaveURL(/step=1&/);
  await page.getByRole("button", { name: "Pause" }).click();
  const stopped = await slider.inputValue();
  await page.waitForTimeout(900);
  await expect(slider).toHaveValue(stopped);
  await page.locator("svg.tiles").click({ position: { x: 62 + 40, y: 24 + 3 * 80 + 40 } });
  await expect(slider).toHaveValue("7");
});

test("flash: the course of one query, its numbers, and the error at the end", async ({
  open,
  page,
  mock,
}) => {
  await open(`#v=1&view=flash&query=10&tile=4&step=5${TO_TEXT}`);
  const course = page.getByRole("region", { name: "Course of query 10" });
  await expect(course.locator("tbody tr")).toHaveCount(3);
  await expect(course.locator('[aria-current="step"]')).toContainText("9–12");
  const flash = lookedAt({
    text: TEXT,
    layer: 0,
    head: 0,
    tiles: true,
    row: 9,
    block_m: 4,
    block_n: 4,
  })?.flash;
  const last = flash?.course[2];
  await expect(course.locator("tbody tr").last()).toContainText(last?.total.toPrecision(4) ?? "?");
  await page.getByText("All 8 numbers of the partial output").click();
  await expect(page.locator(".numbers")).toContainText((last?.partial[0] ?? 0).toFixed(4).replace("-", "−"));
  await page.getByText("All queries of this tile").click();
  await expect(page.getByRole("region", { name: "Queries of this tile" }).locator("tbody tr")).toHaveCount(4);
  await expect(page.getByText(/differs from plain softmax by 3\.6 × 10⁻⁷ at most/)).toBeVisible();
  await expect(page.getByText(/in tiles, .* written out\./).first()).toBeVisible();
  await query(page).press("Home");
  await expect(page.getByRole("region", { name: "Course of query 1", exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Go to its first tile" }).click();
  await expect(page.getByRole("slider", { name: "Tile" })).toHaveValue("1");
  await page.getByRole("combobox", { name: "Tile" }).selectOption("8");
  await expect(
    page.getByText("8 queries by 8 keys: your choice; flash on cpu does not say which tiles it takes."),
  ).toBeVisible();
  expect(mock.looks.at(-1)).toMatchObject({ tiles: true, block_m: 8, block_n: 8, row: 0 });
});

test("flash: files", async ({ open, page }) => {
  await open(`#v=1&view=flash&tile=4${TO_TEXT}`);
  const rows = (await readFile(await save(page, "CSV"), "utf8")).trimEnd().split("\r\n");
  expect(rows[0]).toBe("query,key_from,key_to,skipped,peak,total,rescale,norm,bytes_tiled,bytes_written");
  expect(rows).toHaveLength(1 + 14 * 4);
  const json = JSON.parse(await readFile(await save(page, "JSON"), "utf8")) as {
    flash: { tiles: unknown[] };
  };
  expect(json.flash.tiles).toHaveLength(16);
  expect((await readFile(await save(page, "PNG"))).subarray(1, 4).toString()).toBe("PNG");
});

for (const view of ["attention", "flash"]) {
  for (const colorScheme of ["light", "dark"] as const) {
    test.describe(`${view}, ${colorScheme}, a phone`, () => {
      test.use({ colorScheme, viewport: { width: 390, height: 800 }, reducedMotion: "reduce" });
      test("fits, and axe finds nothing", async ({ open, page }) => {
        await open(`#v=1&view=${view}&layer=5${TO_TEXT}`);
        await expect(page.getByRole("heading", { name: "Layer 5, head 0" })).toBeVisible();
        for (const summary of await page.locator("summary").all()) await summary.click();
        expect(await violations(page)).toEqual([]);
      });
    });
  }
}
