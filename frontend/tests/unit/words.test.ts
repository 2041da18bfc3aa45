// @vitest-environment happy-dom

import { expect, test } from "vitest";
import {
  axisTime,
  change,
  duration,
  durations,
  inTokens,
  percent,
  percents,
  signed,
  tokens,
} from "../../src/data/words";
import { wrapped } from "../../src/export/picture";
import { rate, rateNow, firstToken } from "../../src/state/talk";

test("numbers read well", () => {
  expect(tokens(13189)).toBe("13,189");
  expect([0.1234, 1, -0.004, -0.0001].map((share) => percent(share))).toEqual([
    "12.3 %",
    "100.0 %",
    "−0.4 %",
    "0.0 %",
  ]);
  expect([0, 0.0123, 0.9, 1.234, 12.34, 123.4, 2345].map(duration)).toEqual([
    "0 ms",
    "12.3 µs",
    "900 µs",
    "1.23 ms",
    "12.3 ms",
    "123 ms",
    "2.35 s",
  ]);
});

test("both ends of a range have the same unit and digits", () => {
  expect(durations(0.95, 1.25)).toBe("0.95 to 1.25 ms");
  expect(durations(-0.002, 0.0151)).toBe("−2.0 to 15.1 µs");
  expect(percents(-0.004, 0.019)).toBe("−0.4 to 1.9 %");
});

test("an axis has one unit", () => {
  expect([0, 500, 1500].map((ms) => axisTime(ms, 1500))).toEqual(["0 s", "0.5 s", "1.5 s"]);
});

test("lines break at spaces", () => {
  expect(wrapped("one two three", 7)).toEqual(["one two", "three"]);
  expect(wrapped("", 5)).toEqual([""]);
});

test("speed counts the gaps between tokens, not the wait for the first", () => {
  const pace = { sent: 0, first: 500, last: 1500, recent: [], count: 11, exact: true };
  expect(firstToken(pace)).toBe(500);
  expect(rate(pace)).toBe(10);
  expect(rate({ ...pace, count: 1 })).toBeNull();
});

test("the speed of now is that of the last pieces, and silence makes it fall", () => {
  const pace = {
    sent: 0,
    first: 0,
    last: 1400,
    recent: [1000, 1100, 1200, 1300, 1400],
    count: 15,
    exact: false,
  };
  expect(rateNow(pace, 1400)).toBe(10);
  expect(rateNow(pace, 1550)).toBe(10); // the next piece is hardly late
  expect(rateNow(pace, 3000)).toBe(2);
  expect(rateNow({ ...pace, recent: [1400] }, 1400)).toBeNull();
  expect(rateNow({ ...pace, recent: [1400, 1400] }, 1400)).toBeNull(); // two in one packet
});

test("one is one, and a change has its sign", () => {
  expect([1, 2, 1024].map((count) => inTokens(count))).toEqual(["1 token", "2 tokens", "1,024 tokens"]);
  expect(inTokens(1, "output")).toBe("1 output token");
  expect([1024, 0, -80].map(change)).toEqual(["+1,024", "0", "−80"]);
  expect([1.5, 0, -0.0123].map(signed)).toEqual(["+1.50 ms", "0 ms", "−12.3 µs"]);
});
