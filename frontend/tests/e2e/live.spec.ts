// What needs the engine: measuring and talking.

import { expect, test } from "./page";

test("Measure now shows its progress and then its result", async ({ open, mock }) => {
  mock.runs = [];
  mock.pause = 60; // its progress can be seen for a second
  const page = await open();
  await expect(page.getByText("Nothing has been measured yet")).toBeVisible();
  await page.getByRole("button", { name: "Measure now" }).click();
  await expect(page.getByRole("progressbar", { name: "Measuring" })).toBeVisible();
  await expect(page.getByText(/block \d+ of 10, about 39 s in all/)).toBeVisible();
  await expect(page.getByRole("heading", { level: 1 })).toContainText("attention reaches 10 %");
  await expect(page).toHaveURL(new RegExp(`a=${"d4".repeat(32)}`));
});

test("a measurement can be cancelled", async ({ open, mock }) => {
  mock.pause = 200;
  const page = await open();
  await page.getByRole("button", { name: "Measure now" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByRole("button", { name: "Measure now" })).toBeVisible();
  await expect.poll(() => mock.cancelled).toBe(1);
});

test("a busy engine is measured only if one insists", async ({ open, mock }) => {
  mock.busy = true;
  const page = await open();
  await page.getByRole("button", { name: "Measure now" }).click();
  await expect(page.getByRole("alert")).toContainText("The engine is busy with 2 requests.");
  await page.getByRole("button", { name: "Measure anyway" }).click();
  await expect(page).toHaveURL(new RegExp("a=d4"));
});

test("an answer streams, and says how fast it came", async ({ open }) => {
  const page = await open("#v=1&view=chat");
  await page.getByLabel("Your message").fill("What is a llama?");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("log")).toContainText("spits when it is not.");
  await expect(page.getByText("Counted by the engine")).toBeVisible();
  await expect(page.locator(".speed")).toContainText(
    /first token[\d.]+ ms.*tokens a second[\d.]+.*tokens\d+/,
  );
});

test("an answer can be stopped", async ({ open, mock }) => {
  mock.pause = 150;
  const page = await open("#v=1&view=chat");
  await page.getByLabel("Your message").fill("What is a llama?");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("log")).toContainText("llama is");
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Send" })).toBeVisible();
  await expect.poll(() => mock.cancelled).toBe(1);
});

test("a server with keys is asked again with one", async ({ open, mock }) => {
  mock.key = "sesame";
  const page = await open();
  await page.getByLabel(/asks for an API key/).fill("sesame");
  await page.getByRole("button", { name: "Use this key" }).click();
  await expect(page.getByRole("heading", { level: 1 })).toContainText("attention reaches 10 %");
  expect(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }))).not.toContain(
    "sesame",
  );
});

test("what comes after the first load and cannot be had is said", async ({ open, page }) => {
  await page.route(/assets\/live-/, (route) => route.fulfill({ status: 404 }));
  await open("#v=1&view=chat");
  await expect(page.getByRole("alert")).toHaveText(/could not be loaded\. Load the page again\./);
  await page.getByRole("tab", { name: "Budget" }).click();
  await expect(page.getByRole("slider", { name: "Length in tokens" })).toBeVisible();
});
