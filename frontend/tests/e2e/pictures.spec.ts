// Pictures of every view for people to look at: SHOTS=folder npm run e2e -- pictures

import { expect, test } from "./page";

const FOLDER = process.env.SHOTS ?? "test-results";
const RUN_B = `b=${"b2".repeat(32)}`;

const PICTURES: Record<string, string> = {
  budget: "",
  prefill: "#v=1&phase=prefill&y=ms",
  stages: "#v=1&detail=stages",
  compare: `#v=1&${RUN_B}`,
  chat: "#v=1&view=chat",
  switches: "#v=1&view=switches",
  runs: "#v=1&view=runs",
  calibrated: "",
  spec: "#v=1&detail=stages",
};

for (const width of [1280, 400]) {
  for (const colorScheme of ["light", "dark"] as const) {
    test.describe(`${width} ${colorScheme}`, () => {
      test.use({ viewport: { width, height: 900 }, colorScheme });
      for (const [name, hash] of Object.entries(PICTURES)) {
        test(name, async ({ open, mock }) => {
          if (name === "calibrated" || name === "spec") mock.kind = name;
          const page = await open(hash);
          await expect(page.getByRole("heading", { level: 1 })).toContainText("10 %");
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
