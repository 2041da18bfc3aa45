import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { defineConfig } from "@playwright/test";

// Debian's Chromium where there is one; otherwise the one that Playwright finds by itself.
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

// One window for all tests of a worker, emptied between them: opening one takes as long as a test.
process.env.PW_TEST_REUSE_CONTEXT ??= "1";

export default defineConfig({
  testDir: "tests/e2e",
  testIgnore: process.env.SHOTS ? [] : "**/pictures.spec.ts", // for people, not for a verdict
  outputDir: "test-results",
  workers: Math.min(4, availableParallelism()), // as pytest's
  fullyParallel: true,
  timeout: 30_000,
  reporter: "line",
  use: {
    browserName: "chromium",
    viewport: { width: 1280, height: 900 },
    launchOptions: {
      ...(existsSync(CHROMIUM) ? { executablePath: CHROMIUM } : {}),
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
