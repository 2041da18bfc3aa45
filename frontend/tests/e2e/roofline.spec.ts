// How near each stage comes to the machine's limits: picture, point and table.

import { ON_GPU, RECORDED } from "../recorded";
import { HERE } from "../sample";
import { expect, test } from "./page";
import { violations, WINDOWS } from "./axe";

const ROOFLINE = `#v=1&a=${RECORDED.id}&view=roofline`;
test.beforeEach(({ mock }) => {
  mock.runs = [RECORDED, ON_GPU, HERE];
  mock.kind = "recorded";
});

test("points are chosen and lengths gone through without a mouse", async ({ open }) => {
  const page = await open(ROOFLINE);
  const detail = page.getByRole("region", { name: "The chosen stage" });
  await expect(detail).toContainText("attention in a decode step at 1,024 tokens");
  await page.getByRole("radio", { name: "decode step" }).focus();
  await page.keyboard.press("ArrowRight");
  await expect(detail).toContainText("in a prefill at 1,024 tokens");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Tab");
  await expect(page.getByRole("slider", { name: "Length" })).toBeFocused();
  await page.keyboard.press("ArrowRight");
  await expect(detail).toContainText("at 2,048 tokens");
  await page.keyboard.press("End");
  await expect(page.getByRole("slider")).toHaveAttribute("aria-valuetext", "4,096 tokens");
  await page.keyboard.press("Tab");
  await expect(page.getByRole("radio", { name: "attention" })).toBeFocused();
  for (let press = 0; press < 20; press++) {
    if (await page.getByRole("radio", { name: "LM head" }).isChecked()) break;
    await page.keyboard.press("ArrowRight");
  }
  await expect(detail).toContainText("LM head in a decode step at 4,096 tokens");
  await expect(page).toHaveURL(/length=4096.*stage=lm_head/);
});

test("a point says what it is made of", async ({ open }) => {
  const page = await open(`${ROOFLINE}&stage=lm_head`);
  const detail = page.getByRole("region", { name: "The chosen stage" });
  await expect(detail.getByRole("row", { name: /FLOPs 56\.6 MFLOP counted/ })).toBeVisible();
  await expect(detail.getByRole("row", { name: /^FLOPs 2/ })).toContainText(
    "2 × 28,311,552 weights × 1 row = 56.6 MFLOP",
  );
  await expect(detail).toContainText("Memory bandwidth is its roof.");
  await expect(detail).toContainText("The calibrated model says");
  for (const name of [/^time/, /^reached/, /^share of the roof/])
    await expect(detail.getByRole("row", { name }).locator("td").first()).toHaveAttribute(
      "data-kind",
      "recorded",
    );
});

test("a stage without counted arithmetic has bytes and no point", async ({ open }) => {
  const page = await open(`${ROOFLINE}&stage=norm`);
  const detail = page.getByRole("region", { name: "The chosen stage" });
  await expect(detail.getByRole("row", { name: /^FLOPs not counted/ }).first()).toBeVisible();
  await expect(page.locator("svg.chart [data-stage=norm]")).toHaveCount(0);
  await expect(page.getByText(/Not in the picture, .*norm/)).toBeVisible();
});

test("a click on a point chooses it", async ({ open }) => {
  const page = await open(ROOFLINE);
  await page.locator("svg.chart [data-stage=mlp] circle").last().click();
  await expect(page.getByRole("radio", { name: "MLP" })).toBeChecked();
});

test("the table holds every point", async ({ open }) => {
  const page = await open(ROOFLINE);
  await page.getByText("All points as a table").click();
  const rows = page.getByRole("region", { name: "All points" }).locator("tbody tr");
  await expect(rows.filter({ hasText: "attention" })).toHaveCount(
    RECORDED.cells.filter(({ phase }) => phase === "decode").length,
  );
});

test("the data sheet's roof is dashed, and only where the machine has one", async ({ open }) => {
  const page = await open(ROOFLINE);
  await expect(page.locator("svg.chart [data-roof=recorded] path")).not.toHaveAttribute(
    "stroke-dasharray",
    /./,
  );
  await expect(page.locator("svg.chart [data-roof=spec]")).toHaveCount(0);
  await expect(page.getByText("The page knows no data sheet of this machine")).toBeVisible();
  await page.goto(page.url().replace(RECORDED.id, ON_GPU.id));
  await expect(page.locator("svg.chart [data-roof=spec] path")).toHaveAttribute("stroke-dasharray", /./);
  await expect(page.getByText(/data sheet: 989 TFLOP\/s, 3\.35 TB\/s/)).toBeVisible();
});

test("without a calibration the points are the same", async ({ open, mock }) => {
  mock.calibrations = [];
  const page = await open(ROOFLINE);
  await expect(page.locator("svg.chart [data-stage]")).toHaveCount(5);
  await expect(page.getByText("The calibrated model says")).toHaveCount(0);
});

test("a run that says nothing of its machine is not guessed at", async ({ open }) => {
  const page = await open(`#v=1&a=${HERE.id}&view=roofline`);
  await expect(page.getByText(/does not say enough.*model\.spec is missing/)).toBeVisible();
});

for (const window of WINDOWS) {
  test.describe(`${window.viewport.width} px`, () => {
    test.use(window);
    for (const { id } of [RECORDED, ON_GPU, HERE]) {
      test(`nothing stands in a reader's way, run ${id.slice(0, 4)}`, async ({ open }) => {
        const page = await open(`#v=1&a=${id}&view=roofline`);
        await expect(page.locator(id === HERE.id ? ".empty" : "svg.chart")).toBeVisible();
        for (const summary of await page.locator("summary").all()) await summary.click();
        expect(await violations(page)).toEqual([]);
      });
    }
  });
}
