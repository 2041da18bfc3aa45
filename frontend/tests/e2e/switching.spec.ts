// Switches that change the running engine, by mouse and by keys, and what the page says of it.

import type { Locator, Page } from "@playwright/test";
import { violations } from "./axe";
import { expect, test } from "./page";

/** The value that means off says so. */
const exactly = (value: string): RegExp => new RegExp(`^${value}( off)?$`);
const group = (page: Page, key: string): Locator => page.getByRole("group", { name: key, exact: true });
const radio = (page: Page, key: string, value: string): Locator =>
  group(page, key).getByRole("radio", { name: exactly(value) });
const choose = (page: Page, key: string, value: string): Promise<void> =>
  group(page, key)
    .locator("label")
    .filter({ hasText: exactly(value) })
    .click();

test("a click changes a switch, and what follows from it is said", async ({ open, mock }) => {
  mock.switches = mock.switches.map((row) => (row.key === "overlap" ? { ...row, current: "on" } : row));
  const page = await open("#v=1&view=switches");
  await expect(radio(page, "kv_cache", "on")).toBeChecked();
  await choose(page, "kv_cache", "off");
  await expect(page.locator(".switch-news")).toHaveText(
    /^kv_cache is off now, after 0\.\d+ s, and with it overlap is off\.$/,
  );
  expect(mock.changes).toEqual([{ kv_cache: "off" }]);
  await expect(radio(page, "kv_cache", "off")).toBeChecked();
  await expect(radio(page, "overlap", "off")).toBeChecked();
  const row = page.locator(".switch").first();
  await expect(row.locator(".value")).toHaveText("off");
  await expect(row).toContainText("as you chose");
  await expect(row).toContainText("The same at the next start: --kv-cache off");
});

test("arrow keys move through the values, and only where they rest is asked for", async ({ open, mock }) => {
  mock.building = 1200;
  const page = await open("#v=1&view=switches");
  const first = radio(page, "chunked_prefill", "512");
  await first.focus();
  for (const _ of [1, 2, 3]) await page.keyboard.press("ArrowRight");
  await expect(radio(page, "chunked_prefill", "1")).toBeChecked();
  await expect(page.locator(".switch-news")).toHaveText("Changing chunked_prefill to 1 …");
  await expect(group(page, "chunked_prefill")).toHaveAttribute("data-changing", "true");
  await expect(page.locator(".switch-news")).toContainText("chunked_prefill is 1 now");
  await expect(group(page, "chunked_prefill")).toHaveAttribute("data-changing", "false");
  await expect(radio(page, "chunked_prefill", "1")).toBeFocused();
  expect(mock.changes).toEqual([{ chunked_prefill: "1" }]);
});

test("a refusal is shown, and the old choice stays checked", async ({ open, mock }) => {
  const page = await open("#v=1&view=switches");
  await choose(page, "batching", "static");
  await expect(page.locator(".switch-news")).toHaveText(/^batching cannot be static.*smaller max_seqs$/);
  await expect(radio(page, "batching", "continuous")).toBeChecked();
  mock.busy = true;
  await choose(page, "kv_cache", "off");
  await expect(page.locator(".switch-news")).toContainText("kv_cache cannot change while a measurement runs");
  await expect(radio(page, "kv_cache", "on")).toBeChecked();
});

test("while this page measures a change is refused at once", async ({ open, mock }) => {
  mock.pause = 300;
  const page = await open("#v=1&view=switches");
  await page.getByRole("button", { name: "Measure now" }).click();
  await choose(page, "kv_cache", "off");
  await expect(page.locator(".switch-news")).toContainText("A measurement is running");
  await expect(radio(page, "kv_cache", "on")).toBeChecked();
  expect(mock.changes).toEqual([]);
});

test("what this machine cannot have is disabled, with its reason", async ({ open }) => {
  const page = await open("#v=1&view=switches");
  await expect(radio(page, "graphs", "on")).toBeDisabled();
  await expect(radio(page, "graphs", "on")).toHaveAccessibleDescription(/CUDA graphs need an NVIDIA GPU/);
  await expect(page.getByText("graphs on: CUDA graphs need an NVIDIA GPU")).toBeVisible();
});

test("while a change is on its way others wait, and nothing loses the focus", async ({ open, mock }) => {
  mock.building = 400;
  const page = await open("#v=1&view=switches");
  await choose(page, "kv_cache", "off");
  await choose(page, "attention", "naive");
  await expect(radio(page, "attention", "naive")).toBeFocused();
  await expect(group(page, "attention")).toHaveAttribute("data-changing", "true");
  await expect(page.locator(".switch-news")).toContainText("attention is naive now");
  expect(mock.changes).toEqual([{ kv_cache: "off" }, { attention: "naive" }]);
});

test.describe("a phone", () => {
  test.use({ colorScheme: "dark", viewport: { width: 390, height: 844 } });
  test("a refusal and a change pass axe, and nothing is wider than the window", async ({ open }) => {
    const page = await open("#v=1&view=switches");
    await choose(page, "batching", "static");
    await expect(page.locator(".switch-news.refused")).toBeVisible();
    expect(await violations(page)).toEqual([]);
    await choose(page, "attention", "naive");
    await expect(page.locator(".switch-news.changed")).toBeVisible();
    expect(await violations(page)).toEqual([]);
  });
});

const talk = async (page: Page): Promise<void> => {
  await page.getByLabel("Your message").fill("What is a llama?");
  await page.keyboard.press("Enter");
};

test("switches change beside a talk, and the answer goes on", async ({ open, mock }) => {
  mock.pause = 120;
  mock.building = 200;
  const page = await open("#v=1&view=chat");
  await talk(page);
  await expect(page.getByRole("log")).toContainText("llama is");
  await expect(page.getByText("the speed is the last second's")).toBeVisible();
  await expect(page.locator(".speed")).toContainText(/tokens a second[5-9]\.\d/); // a token in 120 ms
  await choose(page, "kv_cache", "off");
  await expect(page.getByText("kv_cache is off now")).toBeVisible();
  await expect(page.getByRole("button", { name: "Stop" })).toBeVisible();
  await expect(page.getByRole("log")).toContainText("spits when it is not.");
  await expect(page.getByText("the speed is the whole answer's")).toBeVisible();
  expect(mock.cancelled).toBe(0);
});

test("a speed falls while nothing comes", async ({ open, mock }) => {
  mock.pause = 70; // midway between ten and twenty a second, on a busy machine too
  const page = await open("#v=1&view=chat");
  await talk(page);
  await expect(page.locator(".speed")).toContainText(/tokens a second1\d\.\d/);
  mock.pause = 3000;
  await expect(page.locator(".speed")).toContainText(/tokens a second[0-8]\.\d/);
});

test("a wide window has them beside the budget, and charts keep their width", async ({ open, page }) => {
  const width = async (): Promise<number> =>
    (await page.locator("svg.chart").first().boundingBox())?.width ?? 0;
  await page.setViewportSize({ width: 1400, height: 900 });
  await open();
  await expect(page.locator("details.rail")).not.toHaveAttribute("open");
  const before = await width();
  await page.setViewportSize({ width: 1700, height: 900 });
  await expect(page.getByRole("region", { name: "Switches" })).toBeVisible();
  await expect.poll(width).toBe(before);
  expect(await violations(page)).toEqual([]);
  const tabs = page.getByRole("tablist", { name: "View" });
  const place = await tabs.boundingBox();
  await page.getByRole("tab", { name: "Switches" }).click();
  await expect(page.getByRole("heading", { name: "Switches" })).toBeVisible();
  expect(await tabs.boundingBox()).toEqual(place);
});

test.describe("a talk on a phone", () => {
  test.use({ colorScheme: "dark", viewport: { width: 390, height: 844 } });
  test("switches are folded away above it, and fit when they are not", async ({ open }) => {
    const page = await open("#v=1&view=chat");
    await expect(group(page, "kv_cache")).toBeHidden();
    await page.getByText("Switches of the running engine").click();
    await choose(page, "kv_cache", "off");
    await expect(page.getByText("kv_cache is off now")).toBeVisible();
    await page.getByText("Why no on").click();
    await expect(page.getByText("graphs on: CUDA graphs need an NVIDIA GPU")).toBeVisible();
    expect(await violations(page)).toEqual([]);
  });
});
