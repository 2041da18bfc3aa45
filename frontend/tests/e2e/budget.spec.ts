import { HERE, sampleRun, THERE } from "../sample";
import { expect, test } from "./page";

const UNKNOWN_ID = "e5".repeat(32);

test("the newest run of this machine is there without a click, sentence first", async ({ open }) => {
  const page = await open();
  await expect(page.getByRole("heading", { level: 1 })).toContainText(
    "On smollm2 and AMD EPYC, attention reaches 10 %",
  );
  await expect(page.getByText("measured here · smollm2 on AMD EPYC")).toBeVisible();
  await expect(
    page.getByRole("img", { name: /Where the time of a decode step goes, measured here/ }),
  ).toBeVisible();
});

test("tabs, choices and the cursor need no mouse", async ({ open }) => {
  const page = await open();
  await page.getByRole("tab", { name: "Decode step" }).focus();
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("tab", { name: "Prefill" })).toBeFocused();
  await expect(page.getByRole("heading", { level: 1 })).toContainText("a prefill");
  await page.keyboard.press("Home");
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("radio", { name: "time" })).toBeChecked();
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("radio", { name: "every stage" })).toBeChecked();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("checkbox", { name: "Model" })).toBeFocused();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Show me" })).toBeFocused();
  await page.keyboard.press("Tab");

  const cursor = page.getByRole("slider", { name: "Length in tokens" });
  await expect(cursor).toBeFocused();
  await page.keyboard.press("ArrowRight");
  await expect(cursor).toHaveAttribute("aria-valuetext", /^2,048 tokens: attention \d+ %, .*measured here$/);
  await page.keyboard.press("Home");
  await expect(page.getByRole("caption").filter({ hasText: "A decode step at 64 tokens" })).toBeVisible();
  await page.keyboard.press("End");
  await expect(page).toHaveURL(/#v=1&detail=stages&length=4096&y=ms$/);
});

test("the cursor rests on measured lengths, however they are spaced, and the mouse moves it too", async ({
  open,
  mock,
}) => {
  mock.runs = [sampleRun({ id: "f6".repeat(32), seed: 5, lengths: [64, 256, 1024, 2048, 4096] })];
  const page = await open();
  const cursor = page.getByRole("slider");
  await cursor.press("ArrowLeft");
  await expect(cursor).toHaveValue("800"); // log₂ 256, in hundredths
  const box = await cursor.boundingBox();
  if (!box) throw new Error("the cursor is nowhere");
  await page.mouse.click(box.x + box.width * 0.8, box.y + box.height / 2);
  await expect(cursor).toHaveAttribute("aria-valuetext", /^2,048 tokens/);
  const chart = await page.locator("svg.chart").boundingBox();
  await page.mouse.click((chart?.x ?? 0) + 50, (chart?.y ?? 0) + 200);
  await expect(cursor).toHaveAttribute("aria-valuetext", /^64 tokens/);
});

test("the table says what the picture says", async ({ open }) => {
  const page = await open("#v=1&detail=stages&length=256");
  const cell = HERE.cells.find(({ phase, length }) => phase === "decode" && length === 256);
  const rows = page.getByRole("region", { name: "Figures at the cursor" }).locator("tbody tr");
  await expect(rows).toHaveCount(Object.keys(cell?.stages_ns ?? {}).length);
  await expect(rows.first()).toHaveText(/attention[\d.]+ (ms|µs)[\d.]+ %[\d.]+ to [\d.]+ %measured, n 10/);
  await expect(page.locator("svg.chart path[data-part]")).toHaveCount(
    Object.keys(cell?.stages_ns ?? {}).length,
  );
});

test("no figure is without its kind", async ({ open }) => {
  const page = await open(`#v=1&b=${THERE.id}`);
  await expect(page.locator("svg.chart")).toHaveCount(2);
  const cells = page.locator(".at-cursor td:nth-child(3)").filter({ hasNotText: "–" });
  await expect(cells).not.toHaveCount(0);
  for (const cell of await cells.all()) await expect(cell).toHaveAttribute("data-kind", "recorded");
  await expect(page.getByText("recorded · middle half of 10 blocks")).toBeVisible();
});

test("a part that only one of two runs has is compared too", async ({ open, mock }) => {
  const cells = THERE.cells.map((cell) => ({
    ...cell,
    stages_ns: { ...cell.stages_ns, draft: cell.wall_ns.map(() => 4000) },
  }));
  mock.runs = [HERE, { ...THERE, cells }];
  const page = await open(`#v=1&detail=stages&b=${THERE.id}`);
  await expect(page.getByRole("row", { name: /draft/ })).toHaveText(
    /draft–3\.95 µs3\.95 µs3\.95 to 3\.95 µsrecorded, n 10/,
  );
});

test("a run that the server lacks is not replaced by another", async ({ open }) => {
  const page = await open(`#v=1&a=${UNKNOWN_ID}`);
  await expect(page.getByRole("heading", { level: 1 })).toContainText(
    "cannot be shown: this server does not have it",
  );
  await expect(page.locator("svg.chart")).toHaveCount(0);
});

test("the address and the Back button follow", async ({ open }) => {
  const page = await open("#v=1&phase=prefill");
  await page.getByRole("tab", { name: "Chat" }).click();
  await expect(page).toHaveURL(/view=chat/);
  await page.goBack();
  await expect(page.getByRole("tab", { name: "Prefill" })).toHaveAttribute("aria-selected", "true");
});
