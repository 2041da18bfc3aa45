import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BRIEF, decode, encode, HOME, switchesIn, textOf, VIEWS, type Link } from "../../src/state/link";

const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
const name = fc.stringMatching(/^[\w.-]{0,40}$/);
const id = fc.oneof(fc.constant(""), hex);

const links: fc.Arbitrary<Link> = fc.record({
  view: fc.constantFrom(...VIEWS),
  phase: fc.constantFrom("decode", "prefill", "request"),
  batch: fc.integer({ min: 1, max: 4096 }),
  output: fc.integer({ min: 1, max: 1_000_000 }),
  y: fc.constantFrom("share", "ms"),
  detail: fc.constantFrom("groups", "stages"),
  model: fc.constantFrom("on", "off"),
  length: fc.integer({ min: 1, max: 1_000_000 }),
  stage: fc.constantFrom("attention", "mlp", "lm_head"),
  layer: fc.integer({ min: 0, max: 200 }),
  head: fc.integer({ min: 0, max: 200 }),
  query: fc.integer({ min: 0, max: 512 }),
  cells: fc.constantFrom("max", "mean"),
  tile: fc.integer({ min: 0, max: 512 }),
  step: fc.integer({ min: 0, max: 4096 }),
  text: fc.string({ maxLength: BRIEF, unit: "grapheme" }).filter((text) => text.length <= BRIEF),
  at: fc.nat({ max: 999_999_999 }),
  sequence: fc.nat({ max: 999_999_999 }),
  machine: name,
  shape: name,
  set: fc.dictionary(fc.stringMatching(/^[a-z_]{1,24}$/), fc.stringMatching(/^\w{1,9}$/)).map(textOf),
  a: id,
  b: id,
});

describe("the address", () => {
  test("says all that is shown", () => {
    fc.assert(fc.property(links, (link) => void expect(decode(encode(link))).toEqual(link)));
  });

  test("is the same for the same thing, sorted, and holds no defaults", () => {
    fc.assert(
      fc.property(links, (link) => {
        const keys = [...new URLSearchParams(encode(link).slice(1)).keys()].slice(1);
        expect(keys).toEqual([...keys].sort());
        for (const key of keys) expect(link[key as keyof Link]).not.toBe(HOME[key as keyof Link]);
      }),
    );
  });

  test("of the home page is empty", () => expect(encode(HOME)).toBe(""));

  test("never breaks the page, whatever it holds", () => {
    fc.assert(fc.property(fc.string(), (text) => void expect(() => decode(`#v=1&${text}`)).not.toThrow()));
  });

  test("falls back field by field", () => {
    expect(decode("#v=1&phase=sideways&length=64&batch=-1&a=../etc")).toEqual({ ...HOME, length: 64 });
    expect(decode(`#v=1&layer=-1&head=07&query=x&tile=3&text=${"a".repeat(201)}`)).toEqual({
      ...HOME,
      tile: 3,
    });
    expect(decode("#v=9&phase=prefill")).toEqual(HOME);
    for (const bad of ["machine=a/b", "shape=<b>", "set=kv_cache", "set=kv_cache:off,", "set=:off"])
      expect(decode(`#v=1&length=64&${bad}`), bad).toEqual({ ...HOME, length: 64 });
  });

  test("has switches as a sorted list, and back", () => {
    expect(textOf({ kv_cache: "off", attention: "naive" })).toBe("attention:naive,kv_cache:off");
    expect(switchesIn("attention:naive,kv_cache:off")).toEqual({ attention: "naive", kv_cache: "off" });
    expect([switchesIn(""), textOf({})]).toEqual([{}, ""]);
  });
});
