// Pictures of every view for people to look at: SHOTS=folder npm run e2e -- pictures

import { ON_GPU, PAIRS, RECORDED } from "../recorded";
import { HERE, THERE } from "../sample";
import { expect, test } from "./page";

const FOLDER = process.env.SHOTS ?? "test-results";
const REAL = `a=${RECORDED.id}`;
const GPU = PAIRS.find(({ run }) => run.engine.device.startsWith("cuda"))?.run ?? ON_GPU;
const RUN_B = `b=${"b2".repeat(32)}`;

const PICTURES: Record<string, string> = {
  budget: "",
  prefill: "#v=1&phase=prefill&y=ms",
  request: "#v=1&phase=request",
  stages: "#v=1&detail=stages",
  compare: `#v=1&${RUN_B}`,
  model: `#v=1&model=on&${REAL}`,
  "model-stages": `#v=1&model=on&phase=prefill&detail=stages&y=ms&${REAL}`,
  "model-request": `#v=1&model=on&phase=request&length=4096&${REAL}`,
  "model-compare": `#v=1&model=on&${REAL}&${RUN_B}`,
  kv: "#v=1&view=kv&at=18",
  chat: "#v=1&view=chat",
  switches: `#v=1&view=switches&${REAL}`,
  runs: "#v=1&view=runs",
  calibrated: "",
  spec: "#v=1&detail=stages",
  validation: `#v=1&view=validation&${REAL}`,
  refused: `#v=1&view=validation&a=${HERE.id}`,
  roofline: `#v=1&view=roofline&${REAL}`,
  "roofline-prefill": `#v=1&view=roofline&phase=prefill&length=4096&stage=mlp&${REAL}`,
  "roofline-gpu": `#v=1&view=roofline&a=${GPU.id}`,
  "validation-gpu": `#v=1&view=validation&a=${GPU.id}`,
};

for (const width of [1280, 400]) {
  for (const colorScheme of ["light", "dark"] as const) {
    test.describe(`${width} ${colorScheme}`, () => {
      test.use({ viewport: { width, height: 900 }, colorScheme });
      for (const [name, hash] of Object.entries(PICTURES)) {
        test(name, async ({ open, mock }) => {
          mock.runs = [HERE, THERE, RECORDED, GPU];
          if (name === "calibrated" || name === "spec") mock.kind = name;
          const page = await open(hash);
          await expect(page.getByRole("heading", { level: 1 })).toContainText(
            name.includes("request") ? "a whole request" : "10 %",
          );
          if (name === "chat") {
            await page.getByLabel("Your message").fill("What is a llama?");
            await page.keyboard.press("Enter");
            await expect(page.getByText("Counted by the engine")).toBeVisible();
          }
          if (name === "switches") await page.getByText("What it does").first().click();
          await page.waitForTimeout(150);
          await page.screenshot({ path: `${FOLDER}/${name}-${width}-${colorScheme}.png`, fullPage: true });
        });
      }
    });
  }
}
