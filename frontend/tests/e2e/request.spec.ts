// Whole requests: a prompt and its output, from measured cells.

import { HERE, sampleRun, THERE } from "../sample";
import { expect, test } from "./page";

test("a whole request is a third tab, told by its length of output, all by keys", async ({ open }) => {
  const page = await open();
  await page.getByRole("tab", { name: "Decode step" }).focus();
  await page.keyboard.press("End");
  await expect(page.getByRole("tab", { name: "Whole request" })).toBeFocused();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(
    "Where the time of a whole request goes: its prompt, and 128 output tokens.",
  );
  await expect(page.getByText(/Not drawn: prompts of 4,096 tokens, whose output passes/)).toBeVisible();
  await expect(page.locator(".standing")).toHaveText(
    /Attention at the cursor[\d.]+ %of a request with 1,024 prompt tokens and 128 output tokens, [\d.]+ to [\d.]+ %, measured here · summed and interpolated/,
  );

  const output = page.getByRole("spinbutton", { name: "Output tokens" });
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await expect(output).toBeFocused();
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.type("1024");
  await expect(page).toHaveURL(/#v=1&output=1024&phase=request$/);
  await expect(page.getByText(/Not drawn: prompts of 4,096 tokens/)).toBeVisible();
  await page.keyboard.press("ArrowUp");
  await expect(page).toHaveURL(/output=1025/);
  await page.keyboard.press("Delete");
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.press("Delete");
  await page.keyboard.press("Tab");
  await expect(output).toHaveValue("1025"); // an empty field is no number, and is put back
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");

  const cursor = page.getByRole("slider", { name: "Length in tokens" });
  await expect(cursor).toBeFocused();
  await page.keyboard.press("End");
  await expect(cursor).toHaveAttribute(
    "aria-valuetext",
    /^2,048 tokens: attention \d+ %, .*measured here, summed and interpolated$/,
  );
  await expect(page.getByRole("caption").first()).toHaveText(
    "A whole request: 2,048 prompt tokens, 1,025 output tokens (summed and interpolated)",
  );
});

test("the table adds up what was measured", async ({ open, mock }) => {
  const run = sampleRun({ id: "f6".repeat(32), seed: 5, lengths: [64, 66, 1024], blocks: 1 });
  mock.runs = [run];
  const wall = (phase: string, length: number): number =>
    run.cells.find((cell) => cell.phase === phase && cell.length === length)?.wall_ns[0] ?? NaN;
  const page = await open("#v=1&phase=request&output=3&length=64");
  const [at64, at66] = [wall("decode", 64), wall("decode", 66)];
  const total = (wall("prefill", 64) + (at64 + at66) / 2 + at66) / 1e6; // steps that see 65 and 66 tokens
  await expect(page.getByRole("row", { name: "wall time" }).first()).toContainText(`${total.toFixed(1)} ms`);
});

test("has no tab where the run lacks a phase, and says so where the address asks for one", async ({
  open,
  mock,
}) => {
  mock.runs = [{ ...HERE, cells: HERE.cells.filter(({ phase }) => phase === "decode") }];
  const page = await open();
  await expect(page.getByRole("tab", { name: "Decode step" })).toBeVisible();
  await expect(page.getByRole("tab", { name: "Whole request" })).toHaveCount(0);
  await open("#v=1&phase=request");
  await expect(page.getByText("this run does not hold both at batch 1")).toBeVisible();
});

test("Measure now measures both phases there, whatever the server proposes", async ({ open, page }) => {
  await page.route("**/explorer/v1/capabilities", async (route) => {
    const answer = (await (await route.fetch()).json()) as { measure: object };
    await route.fulfill({ json: { ...answer, measure: { ...answer.measure, phases: ["decode"] } } });
  });
  await open("#v=1&phase=request");
  const [request] = await Promise.all([
    page.waitForRequest("**/explorer/v1/measure"),
    page.getByRole("button", { name: "Measure now" }).click(),
  ]);
  expect((request.postDataJSON() as { phases: string[] }).phases).toEqual(["decode", "prefill"]);
});

test("an output that no measured step reaches draws nothing, and the field stays", async ({ open }) => {
  const page = await open("#v=1&phase=request&output=9000");
  await expect(page.getByText("No measured prompt and 9,000 output tokens fit")).toBeVisible();
  await expect(page.locator("svg.chart")).toHaveCount(0);
  await page.getByRole("spinbutton", { name: "Output tokens" }).fill("1");
  await expect(page.locator("svg.chart")).toHaveCount(1);
  await expect(page.getByText("The prompt yields the one token of the output")).toBeVisible();
});

test("two runs are compared", async ({ open }) => {
  const page = await open(`#v=1&phase=request&b=${THERE.id}`);
  await expect(page.locator("svg.chart")).toHaveCount(2);
  await expect(page.locator(".standing dd")).toHaveCount(2);
  await expect(page.getByRole("columnheader", { name: "B − A" })).toBeVisible();
});
