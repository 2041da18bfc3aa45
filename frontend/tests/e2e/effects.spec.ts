// What the model says of each switch, beside it.

import type { Locator, Page } from "@playwright/test";
import { RECORDED } from "../recorded";
import { HERE } from "../sample";
import { expect, test } from "./page";

const row = (page: Page, key: string): Locator =>
  page.locator(".switch").filter({ has: page.getByRole("heading", { name: key, exact: true }) });

test("beside each switch stands what turning it off would do, and where that comes from", async ({
  open,
  mock,
}) => {
  mock.runs = [RECORDED];
  const page = await open("#v=1&view=switches");
  await expect(page.getByText(/Modelled for run [0-9a-f]{8} \(smollm2 on .*, batch 1\)/)).toContainText(
    "modelled, calibrated",
  );
  await expect(row(page, "attention")).toContainText(/ΔS10, decode step *−[\d,]+ [\d,]+ → /);
  await expect(row(page, "kv_cache")).toContainText(/ΔS10, decode step.*ΔS10, prefill/);
  await expect(row(page, "graphs")).toContainText("ΔS10: off in this run already");
  await expect(row(page, "batching")).toContainText("ΔS10: not in the model");
  const figures = page.locator(".effects dd");
  await expect(figures).not.toHaveCount(0);
  for (const figure of await figures.all()) await expect(figure).toHaveAttribute("data-kind", "calibrated");
});

test("of a phase that the machine was not fitted to nothing is said", async ({ open, mock }) => {
  mock.runs = [{ ...RECORDED, cells: RECORDED.cells.filter(({ phase }) => phase === "decode") }];
  const page = await open("#v=1&view=switches");
  await expect(page.getByText("which has no prefill to fit to")).toBeVisible();
  await expect(row(page, "attention")).toContainText("ΔS10, decode step");
  await expect(row(page, "attention")).not.toContainText("ΔS10, prefill");
});

test("a run that cannot be calibrated is modelled by its machine's data sheet", async ({ open, mock }) => {
  mock.runs = [
    {
      ...RECORDED,
      id: HERE.id, // of which there is no calibration
      environment: { ...RECORDED.environment, gpu: "NVIDIA H200" },
      engine: { ...RECORDED.engine, device: "cuda:0" },
    },
  ];
  const page = await open("#v=1&view=switches");
  await expect(page.getByText(/smollm2 on NVIDIA H200 SXM/)).toContainText("modelled, not validated here");
  const figures = page.locator(".effects dd");
  await expect(figures).not.toHaveCount(0);
  for (const figure of await figures.all()) await expect(figure).toHaveAttribute("data-kind", "spec");
});

test("where nothing can be modelled the page says why, and shows no number", async ({ open, mock }) => {
  mock.runs = [RECORDED];
  mock.calibrations = [];
  const page = await open("#v=1&view=switches");
  await expect(
    page.getByText(/it was not calibrated: the run has 5 cells.* There is no data sheet of .* here either\./),
  ).toBeVisible();
  await expect(page.locator(".effects")).toHaveCount(0);
  mock.runs = [{ ...HERE, model: { name: "smollm2" } }];
  await page.reload();
  await expect(page.getByText(/it lacks what the model needs: model\.spec is missing/)).toBeVisible();
});

test("beside each switch stands why it came to its value on this machine", async ({ open, page }) => {
  await open("#v=1&view=switches");
  await expect(row(page, "graphs").locator(".value")).toHaveText("off");
  await expect(row(page, "graphs").locator(".state")).toHaveText(/CUDA graphs need an NVIDIA GPU/);
  await row(page, "graphs").getByText("What it does").click();
  await expect(row(page, "graphs").getByText("--graphs")).toBeVisible();
});
