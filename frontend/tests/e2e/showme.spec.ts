// The experiment that plays by itself: everything off, then one optimization after the other.

import type { Page } from "@playwright/test";
import { RECORDED } from "../recorded";
import { violations } from "./axe";
import { expect, test } from "./page";

const words = (page: Page) => page.getByRole("group", { name: "Show me" }).locator("p").first();

test.describe("where motion is unwanted", () => {
  test.use({ contextOptions: { reducedMotion: "reduce" } });

  test("goes on at a press, tells each change, and changes no engine", async ({ open, mock }) => {
    mock.runs = [RECORDED];
    const page = await open();
    await page.getByRole("button", { name: "Show me" }).click();
    await expect(words(page)).toContainText("Everything is off. The text grows: 64 tokens");
    await page.waitForTimeout(1200);
    await expect(words(page)).toContainText("64 tokens", { timeout: 100 });
    const next = page.getByRole("button", { name: "Next" });
    for (const length of ["128", "256", "512", "1,024", "2,048", "4,096"]) {
      await next.press("Enter");
      await expect(words(page)).toContainText(`${length} tokens`);
    }
    await next.press("Enter");
    await expect(words(page)).toContainText("kv_cache on");
    await expect(page.locator("[data-ghost]")).toBeAttached();
    await expect(page.locator(".compared")).toContainText("kv_cache");
    await next.press("Enter");
    await expect(words(page)).toContainText("attention on");
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press("Escape");
    await expect(page.getByRole("button", { name: "Show me" })).toBeVisible();
    await expect(page).not.toHaveURL(/set=/);
    expect(mock.changes).toEqual([]);
  });
});

test("plays by itself, and ends where the run was", async ({ open, mock }) => {
  mock.runs = [RECORDED];
  const page = await open();
  await page.clock.install();
  await page.getByRole("button", { name: "Show me" }).click();
  await expect(words(page)).toContainText("64 tokens");
  await page.clock.runFor(700);
  await expect(words(page)).toContainText("128 tokens");
  for (let scene = 0; scene < 20 && (await words(page).count()) > 0; scene++) await page.clock.runFor(4200);
  await expect(page.getByRole("button", { name: "Show me" })).toBeVisible();
  await expect(page).not.toHaveURL(/set=/);
});
