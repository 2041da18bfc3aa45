// axe-core on every view, in both themes and at two widths, and what axe cannot see.

import { VIEWS } from "../../src/state/link";
import { THERE } from "../sample";
import { violations, WINDOWS } from "./axe";
import { expect, test } from "./page";

const PAGES = [
  ...VIEWS.map((view) => `#v=1&view=${view}`),
  `#v=1&b=${THERE.id}&detail=stages`,
  "#v=1&phase=prefill&y=ms",
  `#v=1&phase=request&b=${THERE.id}`,
];

for (const window of WINDOWS) {
  test.describe(`${window.viewport.width} px`, () => {
    test.use(window);
    for (const hash of PAGES) {
      test(hash.slice(0, 40), async ({ open }) => {
        const page = await open(hash);
        await expect(page.getByRole("heading", { level: 1 })).toContainText(
          hash.includes("request") ? "a whole request" : "10 %",
        );
        for (const summary of await page.locator("summary").all()) await summary.click();
        expect(await violations(page)).toEqual([]);
      });
    }
  });
}

test("the theme can be chosen, and is kept", async ({ open, page }) => {
  await open();
  await page.getByRole("button", { name: "Dark page" }).click();
  await page.reload();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await expect(page.locator("body")).toHaveCSS("background-color", "rgb(23, 25, 30)");
});

test("the page follows its system's theme while it is open", async ({ open, page }) => {
  await page.emulateMedia({ colorScheme: "light" });
  await open();
  const body = page.locator("body");
  await expect(body).not.toHaveCSS("background-color", "rgb(23, 25, 30)");
  await page.emulateMedia({ colorScheme: "dark" });
  await expect(body).toHaveCSS("background-color", "rgb(23, 25, 30)");
  await expect(page.getByRole("button", { name: "Light page" })).toBeVisible();
});

test("forced colours leave the cursor and the labels to be seen", async ({ open, page }) => {
  await page.emulateMedia({ forcedColors: "active" });
  await open();
  await expect(page.locator("svg.chart text").first()).toBeVisible();
  await expect(page.getByRole("slider")).toBeVisible();
});

test("whoever wants no motion gets none", async ({ open, page }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await open();
  const moving = await page.evaluate(
    () =>
      [...document.querySelectorAll("*")].filter(
        (e) => parseFloat(getComputedStyle(e).transitionDuration) > 0,
      ).length,
  );
  expect(moving).toBe(0);
});
