import { describe, expect, test } from "vitest";
import { BadFile } from "../../src/data/fields";
import { parseRunFile } from "../../src/data/runfile";
import { HERE } from "../sample";

const text = JSON.stringify(HERE);
const [cell] = HERE.cells;

const changed = (change: object): string => JSON.stringify({ ...HERE, ...change });
const withCell = (change: object): string => changed({ cells: [{ ...cell, ...change }] });

const BAD: Record<string, [string, RegExp]> = {
  "not JSON": ["{", /not JSON/],
  "a list": ["[]", /the file is \[\]; expected an object/],
  "another schema": [changed({ schema: 2 }), /schema is 2; this page reads schema 1/],
  "no schema": [changed({ schema: undefined }), /schema is missing/],
  "no model": [changed({ model: undefined }), /model is missing/],
  "no cells": [changed({ cells: [] }), /cells is empty/],
  "a strange phase": [
    withCell({ phase: "draft" }),
    /cells\[0\]\.phase is "draft"; it can be decode or prefill/,
  ],
  "a length of nothing": [withCell({ length: 0 }), /cells\[0\]\.length is 0; expected a whole number/],
  "text for a time": [
    withCell({ wall_ns: ["fast"] }),
    /cells\[0\]\.wall_ns\[0\] is "fast"; expected a number/,
  ],
  "a stage with fewer blocks": [
    withCell({ stages_ns: { mlp: [1] } }),
    /stages_ns\.mlp has 1 blocks, wall_ns has 10/,
  ],
  "no blocks": [withCell({ wall_ns: [], stages_ns: {} }), /no block was measured/],
};

describe("a run file", () => {
  test("is read as it is, and keeps what this page does not know", () => {
    expect(parseRunFile(text)).toEqual(HERE);
    expect(parseRunFile(changed({ later: 1 }))).toHaveProperty("later", 1);
  });

  for (const [name, [file, message]] of Object.entries(BAD)) {
    test(`with ${name} is refused in words`, () => {
      expect(() => parseRunFile(file)).toThrow(BadFile);
      expect(() => parseRunFile(file)).toThrow(message);
    });
  }
});
