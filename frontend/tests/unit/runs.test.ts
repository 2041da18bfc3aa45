// @vitest-environment happy-dom

import { expect, test } from "vitest";
import type { RunEntry } from "../../src/api/types";
import { first } from "../../src/state/runs";

const entry = (id: string, date: string, kind: RunEntry["kind"]): RunEntry => ({
  id,
  date,
  kind,
  model: "m",
  device: "d",
  phases: ["decode"],
  switches: {},
});

test("what this machine measured comes first, the latest of it", () => {
  const known = [
    entry("far", "2026-03-01", "recorded"),
    entry("old", "2026-01-01", "measured"),
    entry("new", "2026-02-01", "measured"),
  ];
  expect(first(known)).toBe("new");
});

test("failing that the server's order counts, and not the date", () => {
  expect(first([entry("near", "2026-01-01", "recorded"), entry("far", "2026-03-01", "recorded")])).toBe(
    "near",
  );
  expect(first([])).toBe("");
});
