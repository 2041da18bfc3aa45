// The KV cache, moment by moment: picture, words, tables, keys, files, and a stream that breaks.

import { readFile } from "node:fs/promises";
import type { Page } from "@playwright/test";
import type { EventsFile, News } from "../../src/data/news";
import { RECORDINGS } from "../recordings";
import { violations } from "./axe";
import { expect, test } from "./page";

const KV = "#v=1&view=kv";
const NEWS = RECORDINGS.small.file.news;
/** The moment, counted from 1, in which somebody gives way. */
const GIVEN =
  1 +
  NEWS.findIndex(
    (one) =>
      one.type === "step" && one.happened.some((each) => each.type === "left" && each.why === "preempted"),
  );
const SHARED =
  1 +
  NEWS.findIndex(
    (one) =>
      one.type === "step" && one.happened.some((each) => each.type === "admitted" && each.shared.length > 0),
  );

const slider = (page: Page) => page.getByRole("slider", { name: "Moment" });
const told = (page: Page) => page.locator(".told");
const allTold = async (page: Page): Promise<void> =>
  expect(slider(page)).toHaveAttribute("max", String(NEWS.length));

test("the picture shows whose each block is, and the words what happened", async ({ open }) => {
  const page = await open(`${KV}&at=${SHARED}`);
  await expect(told(page)).toContainText(/Sequence \d joins and shares 4 blocks, held by 3 now/);
  const shared = page.locator("svg.pool [data-owners='2 3 4']");
  await expect(shared).toHaveCount(4);
  await expect(shared.first()).toContainText("2×3");
  await page.goto(page.url().replace(`at=${SHARED}`, `at=${GIVEN}`));
  await expect(told(page)).toContainText(/Sequence 6 gave its \d blocks? back, since none was free/);
  await expect(page.locator("svg.usage [data-mark=preempted]")).toHaveCount(1);
  await expect(page.locator("tr[data-sequence='6']")).toContainText("gave way (preempted)");
});

test("each moment is reached by keys alone", async ({ open }) => {
  const page = await open(KV);
  await allTold(page);
  await slider(page).focus();
  await page.keyboard.press("Home");
  await expect(told(page)).toContainText("Before the first step");
  await expect(page).toHaveURL(/[#&]at=1(&|$)/);
  await page.keyboard.press("ArrowRight");
  await expect(slider(page)).toHaveAttribute("aria-valuetext", /^Step 1: sequence 1 comes with a prompt/);
  await page.keyboard.press("PageUp");
  await expect(page).toHaveURL(/[#&]at=12(&|$)/);
  await page.keyboard.press("PageDown");
  await expect(page).toHaveURL(/[#&]at=2(&|$)/);
  await page.keyboard.press("End");
  await expect(slider(page)).toHaveValue(String(NEWS.length));
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Step back" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(slider(page)).toHaveValue(String(NEWS.length - 1));
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(slider(page)).toHaveValue(String(NEWS.length));
});

test("a moment in which somebody stays is said aloud, once and late", async ({ open }) => {
  const page = await open(`${KV}&at=2`);
  const aloud = page.locator(".told [role=status]");
  await expect(aloud).toHaveText(/^Step 1: /);
  await page.getByLabel("follow the newest").check();
  await expect(aloud).toHaveText("");
});

test("play goes on by itself until it is paused or at the end", async ({ open }) => {
  const page = await open(`${KV}&at=2`);
  await page.getByRole("button", { name: "Play" }).click();
  await expect(page.getByRole("button", { name: "Pause" })).toBeVisible();
  await expect.poll(async () => Number(await slider(page).inputValue())).toBeGreaterThan(3);
  await page.getByRole("button", { name: "Pause" }).click();
  const at = await slider(page).inputValue();
  await page.waitForTimeout(600);
  await expect(slider(page)).toHaveValue(at);
  await page.goto(page.url().replace(/at=\d+/, `at=${NEWS.length - 1}`));
  await page.getByRole("button", { name: "Play" }).click();
  await expect(slider(page)).toHaveValue(String(NEWS.length));
  await expect(page.getByRole("button", { name: "Play" })).toBeVisible();
});

test("the newest is followed until somebody looks back", async ({ open, mock }) => {
  mock.events = NEWS.slice(0, 6);
  const page = await open(KV);
  await expect(slider(page)).toHaveAttribute("max", "6");
  await expect(page.getByLabel("follow the newest")).toBeChecked();
  mock.events.push(...NEWS.slice(6, 9));
  await expect(slider(page)).toHaveValue("9");
  await page.getByLabel("follow the newest").uncheck();
  mock.events.push(...NEWS.slice(9));
  await allTold(page);
  await expect(slider(page)).toHaveValue("9");
  await expect(page).toHaveURL(/[#&]at=9(&|$)/);
});

test("a sequence can be made to stand out, and the address says so", async ({ open }) => {
  const page = await open(`${KV}&at=${SHARED}`);
  await page.getByRole("radio", { name: "Show sequence 3" }).check();
  await expect(page).toHaveURL(/sequence=3/);
  await expect(page.locator("svg.pool [data-owners='2 3 4']").first()).toHaveAttribute("opacity", "1");
  await expect(page.locator("svg.pool [data-owners='1']").first()).toHaveAttribute("opacity", "0.28");
  await page.getByRole("radio", { name: "Show all alike" }).check();
  await expect(page).not.toHaveURL(/sequence/);
  await page.locator("svg.pool [data-owners='1']").first().click();
  await expect(page.getByRole("radio", { name: "Show sequence 1" })).toBeChecked();
});

test("capacity and waste are worked out", async ({ open }) => {
  const page = await open(`${KV}&at=2`);
  const facts = page.locator(".facts");
  await expect(facts).toContainText("20 blocks × 4 tokens × 46,080 bytes = 3.69 MB: room for 80 tokens.");
  await expect(facts).toContainText("1 of the 8 places in used blocks are empty (12.5 %)");
});

test("without a cache it is seen what is computed again", async ({ open, mock }) => {
  mock.events = [...RECORDINGS.recompute.file.news];
  const page = await open(`${KV}&at=4`);
  await expect(told(page)).toContainText("9 tokens of 1 sequence computed, 8 of them again");
  await expect(told(page)).toContainText("1 sequence forgets what was stored");
  await expect(page.locator(".facts")).toContainText("1 new, 8 again");
  await expect(page.locator("svg.pool [data-block='0'] rect[fill='url(#pool-again)']")).toHaveCount(1);
});

test("of a large pool only what is used is drawn, and the rest is said", async ({ open, mock }) => {
  const [state, ...steps] = NEWS;
  mock.events = [{ ...state, num_blocks: 32_768 } as News, ...steps];
  const page = await open(`${KV}&at=8`);
  await expect(page.locator("svg.pool")).toContainText(/blocks \d+ to 32,767: 32,7\d\d free ones/);
  expect(await page.locator("svg.pool rect").count()).toBeLessThan(400);
});

test("where nothing runs it says so, and an example gives it something to do", async ({ open, mock }) => {
  mock.events = NEWS.slice(0, 1);
  mock.onComplete = NEWS.slice(1);
  const page = await open(KV);
  await expect(page.getByText("Nothing is running, and all blocks are free")).toBeVisible();
  await expect(slider(page)).toHaveCount(0);
  await page.getByRole("button", { name: "Send a small example" }).click();
  await allTold(page);
  await expect.poll(() => mock.completions.length).toBe(4);
  expect(mock.completions.map(({ n }) => n)).toEqual([1, 1, 3, 1]);
  await expect(page.getByRole("button", { name: "Send a small example" })).toBeVisible();
});

test("after a break the stream goes on where it was", async ({ open, mock }) => {
  mock.breakAfter = 10;
  const page = await open(KV);
  await allTold(page);
  expect(mock.lastIds).toEqual(["", "mock-10"]);
  await expect(page.getByText("Told live by the engine.")).toBeVisible();
});

test("a gap is said, and no event is made up for it", async ({ open, mock }) => {
  const dropped: News = { type: "dropped", news: 7 };
  mock.events = [...NEWS.slice(0, 5), dropped];
  const page = await open(KV);
  await expect(page.getByText("7 events came too fast and are missing here.")).toBeVisible();
  mock.events.push({ type: "restarting", reason: "the engine's process was killed by SIGKILL" });
  await expect(page.getByText(/started again: .*SIGKILL/)).toBeVisible();
  mock.events.push(...NEWS);
  await expect(slider(page)).toHaveAttribute("max", String(5 + NEWS.length));
});

test("nobody watches while another view is open", async ({ open, mock }) => {
  const page = await open(KV);
  await allTold(page);
  await page.getByRole("tab", { name: "Runs" }).click();
  await page.getByRole("tab", { name: "KV cache" }).click();
  await expect.poll(() => mock.lastIds).toEqual(["", `mock-${NEWS.length}`]);
  await allTold(page);
});

async function save(page: Page, name: string): Promise<Buffer> {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name, exact: true }).click(),
  ]);
  const path = test.info().outputPath(download.suggestedFilename());
  await download.saveAs(path);
  return readFile(path);
}

test("files that go out are whole, and come in again", async ({ open }) => {
  const page = await open(KV);
  await allTold(page);
  const file = JSON.parse((await save(page, "JSON")).toString()) as EventsFile;
  expect(file).toEqual(RECORDINGS.small.file);
  const rows = (await save(page, "CSV")).toString().trimEnd().split("\r\n");
  expect(rows[0]).toMatch(/^event,step,ns,what,sequence/);
  expect(new Set(rows.map((row) => row.split(",").length)).size).toBe(1);
  expect((await save(page, "SVG")).toString()).toContain('data-owners="');
  expect((await save(page, "PNG")).subarray(1, 4).toString()).toBe("PNG");

  const buffer = Buffer.from(JSON.stringify(RECORDINGS.recompute.file));
  const field = page.getByLabel("Open a recording of events");
  await field.setInputFiles({ name: "other.json", mimeType: "application/json", buffer });
  await expect(page.getByText("From the file other.json.")).toBeVisible();
  await expect(slider(page)).toHaveAttribute("max", String(RECORDINGS.recompute.file.news.length));
  await field.setInputFiles({ name: "cat.json", mimeType: "application/json", buffer: Buffer.from("meow") });
  await expect(page.getByRole("alert")).toContainText("cat.json was not opened. This is not JSON");
  await page.getByRole("button", { name: "Back to the engine" }).click();
  await allTold(page);
});

test("a key is asked for, and given", async ({ open, mock }) => {
  mock.key = "secret";
  const page = await open(KV);
  await page.getByLabel(/API key/).fill("secret");
  await page.keyboard.press("Enter");
  await expect(slider(page)).toBeVisible({ timeout: 10_000 });
});

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1280, 390]) {
    test.describe(`${colorScheme}, ${width} px`, () => {
      test.use({ colorScheme, viewport: { width, height: 900 } });
      for (const at of [0, SHARED, GIVEN]) {
        test(`nothing stands in a reader's way, moment ${at}`, async ({ open }) => {
          const page = await open(at ? `${KV}&at=${at}&sequence=2` : KV);
          await allTold(page);
          for (const summary of await page.locator("summary").all()) await summary.click();
          expect(await violations(page)).toEqual([]);
        });
      }
      test("nor where there is nothing to see", async ({ open, mock }) => {
        mock.events = NEWS.slice(0, 1);
        const page = await open(KV);
        await expect(page.getByText("Nothing is running")).toBeVisible();
        expect(await violations(page)).toEqual([]);
      });
    });
  }
}
