// Files that go out are opened again, and files that come in are looked at.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import type { Page } from "@playwright/test";
import { ELSEWHERE, HERE, THERE } from "../sample";
import { expect, test } from "./page";

async function save(page: Page, name: string): Promise<string> {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name, exact: true }).click(),
  ]);
  const path = test.info().outputPath(download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

const file = (name: string, text: string): { name: string; mimeType: string; buffer: Buffer } => ({
  name,
  mimeType: "application/json",
  buffer: Buffer.from(text),
});

test("an imported run can be compared", async ({ open }) => {
  const page = await open("#v=1&view=runs");
  await page.getByLabel("Import a run file").setInputFiles(file("theirs.json", JSON.stringify(ELSEWHERE)));
  await expect(page.getByText("theirs.json is here as run c3c3c3c3.")).toBeVisible();
  await page.getByRole("radio", { name: /Compare with .* run c3c3c3c3/ }).check();
  await page.getByRole("tab", { name: "Budget" }).click();
  await expect(page.locator("svg.chart")).toHaveCount(2);
  await expect(page.getByRole("columnheader", { name: "B − A" })).toBeVisible();
});

test("a list of runs says when each was made, of what, and how its switches differ", async ({
  open,
  mock,
}) => {
  const page = await open("#v=1&view=runs");
  const row = page.getByRole("row", { name: HERE.id.slice(0, 8) });
  await expect(row).toContainText(HERE.environment.date.slice(0, 16).replace("T", " "));
  await expect(row).toContainText("as they are now");
  mock.switches = mock.switches.map((one) => (one.key === "kv_cache" ? { ...one, current: "off" } : one));
  await page.reload();
  await expect(row).toContainText("kv_cache on");
});

test("a file that is no run file is refused in words", async ({ open }) => {
  const page = await open("#v=1&view=runs");
  const input = page.getByLabel("Import a run file");
  await input.setInputFiles(file("old.json", JSON.stringify({ ...HERE, schema: 9 })));
  await expect(page.getByRole("alert")).toContainText(
    "old.json was not imported. schema is 9; this page reads schema 1",
  );
  await input.setInputFiles(file("cat.json", "meow"));
  await expect(page.getByRole("alert")).toContainText("cat.json was not imported. This is not JSON");
});

test("PNG: twice the size, painted", async ({ open }) => {
  const page = await open(`#v=1&b=${THERE.id}`);
  await expect(page.locator("svg.chart")).toHaveCount(2);
  const bytes = await readFile(await save(page, "PNG"));
  expect(bytes.subarray(1, 4).toString()).toBe("PNG");
  const chart = (await page.locator("svg.chart").first().boundingBox())?.width ?? 0;
  expect(bytes.readUInt32BE(16)).toBe(2 * (Math.round(chart) + 48));
  expect(bytes.length).toBeGreaterThan(20_000);
});

test("PNG: a modelled run is hatched in the picture too", async ({ open, mock }) => {
  mock.kind = "spec";
  const page = await open();
  await expect(page.getByText("modelled, not validated here").first()).toBeVisible();
  const bytes = await readFile(await save(page, "PNG"));
  // Every colour of the picture that takes a hundredth of it or more.
  const colors = await page.evaluate(async (data) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes]));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context?.drawImage(bitmap, 0, 0);
    const pixels = context?.getImageData(0, 0, bitmap.width, bitmap.height).data;
    const counts = new Map<number, number>(); // by number, as words would take seconds
    for (const pixel of new Uint32Array(pixels?.buffer ?? new ArrayBuffer(0)))
      counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
    const many = [...counts].filter(([, count]) => count > (pixels?.length ?? 0) / 400);
    return many.map(([pixel]) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255].join());
  }, bytes.toString("base64"));
  expect(colors).not.toContain("197,87,60"); // attention's colour, which a solid fill would give
  expect(colors.length).toBeGreaterThan(2);
});

test("SVG: one document, paint in attributes, origin below", async ({ open }) => {
  const page = await open();
  const text = await readFile(await save(page, "SVG"), "utf8");
  const found = await page.evaluate((source) => {
    const document = new DOMParser().parseFromString(source, "image/svg+xml");
    return {
      broken: document.querySelector("parsererror") !== null,
      parts: document.querySelectorAll("path[data-part]").length,
    };
  }, text);
  expect(found).toEqual({ broken: false, parts: 5 });
  expect(text).not.toMatch(/var\(|class="note|style=/);
  expect(text).toContain(`commit ${HERE.environment.commit} · run a1a1a1a1`);
});

test("CSV and run file: the numbers themselves", async ({ open }) => {
  const page = await open();
  const rows = (await readFile(await save(page, "CSV"), "utf8"))
    .trimEnd()
    .split("\r\n")
    .map((row) => row.split(","));
  expect(rows[0]?.slice(0, 5)).toEqual(["run", "model", "phase", "batch", "length"]);
  expect(new Set(rows.map((row) => row.length)).size).toBe(1);
  const run: unknown = JSON.parse(await readFile(await save(page, "Run file"), "utf8"));
  expect(run).toEqual(HERE);
});

test("HTML: one file that works with the network off", async ({ open, browser }) => {
  const page = await open(`#v=1&b=${THERE.id}&length=256`);
  await expect(page.locator("svg.chart")).toHaveCount(2);
  const path = await save(page, "HTML");
  const context = await browser.newContext({ offline: true, viewport: { width: 1700, height: 900 } });
  const copy = await context.newPage();
  const asked: string[] = [];
  const complaints: string[] = [];
  copy.on("request", (request) => asked.push(request.url()));
  copy.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await copy.goto(pathToFileURL(path).href);
  await expect(copy.getByRole("heading", { level: 1 })).toContainText("attention reaches 10 %");
  await expect(copy.locator("svg.chart")).toHaveCount(2);
  await expect(copy.getByText("recorded · smollm2 on AMD EPYC")).toBeVisible();
  await expect(copy.locator(".switch-control")).toHaveCount(0); // there is no engine to switch
  await copy.getByRole("slider").press("End");
  await expect(copy.getByRole("caption").filter({ hasText: "4,096" }).first()).toBeVisible();
  const again = await save(copy, "HTML");
  expect((await readFile(again)).length).toBeGreaterThan(50_000);
  expect(asked.filter((url) => url !== pathToFileURL(path).href && !url.startsWith("blob:"))).toEqual([]);
  expect(complaints).toEqual([]);
  await context.close();
});
