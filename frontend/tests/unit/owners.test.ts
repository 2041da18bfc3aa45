// Events to owners, held to the block manager's own tables, which Python wrote beside each event.

import { describe, expect, test } from "vitest";
import { parseEvents, type StepNews, type Telling } from "../../src/data/news";
import { Inconsistent, Owners } from "../../src/data/owners";
import { Recording } from "../../src/data/recording";
import { sceneOf, type Scene } from "../../src/data/scene";
import { bytes, named, ranges, sentencesOf, spokenOf } from "../../src/data/told";
import { eventsTable, HEADER } from "../../src/export/events";
import { RECORDINGS } from "../recordings";

const recorded = (news: readonly Telling[]): Recording => {
  const recording = new Recording();
  news.forEach((one) => recording.add(one));
  return recording;
};

const sceneAt = (recording: Recording, at: number): Scene => {
  const moment = recording.moment(at);
  if (!moment) throw new Error(`there is no moment ${at}`);
  return sceneOf(moment);
};

const ownersOf = (owners: Owners): Record<string, number[]> =>
  Object.fromEntries([...owners.holders].map(([block, held]) => [block, [...held].sort((a, b) => a - b)]));

describe.each(Object.entries(RECORDINGS))("the recording %s", (_, { file, owners }) => {
  test("comes to the block manager's owners after every event", () => {
    const [first, ...rest] = file.news;
    if (first?.type !== "snapshot") throw new Error("no state");
    const now = new Owners(first);
    expect(ownersOf(now)).toEqual(owners[0]);
    rest.forEach((event, index) => {
      now.apply(event as StepNews);
      expect(ownersOf(now)).toEqual(owners[index + 1]);
    });
  });

  test("shows at every moment what is held then, in whichever order one goes", () => {
    const recording = recorded(file.news);
    expect([recording.first, recording.last]).toEqual([1, owners.length]);
    for (let at = recording.last; at >= recording.first; at--) {
      const scene = sceneAt(recording, at);
      const held = [...scene.blocks.values()].filter(({ change }) => change !== "freed");
      const shown = Object.fromEntries(
        held.map(({ block, owners: who }) => [block, [...who].sort((a, b) => a - b)]),
      );
      expect(shown).toEqual(owners[at - 1]);
      expect(scene.numUsed).toBe(held.length);
      for (const { kept, again, fresh } of held)
        expect(kept + again + fresh).toBeLessThanOrEqual(scene.blockSize);
    }
  });

  test("is the same after it went out and came in", () => {
    const recording = recorded(file.news);
    const text = JSON.stringify({ ...file, news: recording.news() });
    expect(parseEvents(text)).toEqual(file);
  });
});

test("tokens computed again are told from new ones", () => {
  const { news } = RECORDINGS.recompute.file;
  const recording = recorded(news);
  const second = sceneAt(recording, 3);
  expect([second.computed, second.fresh]).toEqual([8, 1]);
  expect(sentencesOf(second)).toEqual([
    "8 tokens of 1 sequence computed, 7 of them again.",
    "1 new token chosen.",
    "1 sequence forgets what was stored (kv_cache off).",
  ]);
  const [block] = second.blocks.values();
  expect(block).toMatchObject({ kept: 0, again: 4, fresh: 0, read: true });
});

test("whoever gave way is told of in words, and computes its tokens again", () => {
  const recording = recorded(RECORDINGS.small.file.news);
  const scenes = Array.from({ length: recording.last }, (_, index) => sceneAt(recording, index + 1));
  const told = scenes.flatMap(sentencesOf).filter((sentence) => /gave its/.test(sentence));
  expect(told).toEqual([
    expect.stringMatching(/^Sequence \d+ gave its \d+ blocks? back, since none was free; it waits in front/),
  ]);
  expect(scenes.some(({ computed, fresh }) => computed > fresh)).toBe(true);
  expect(scenes.flatMap(sentencesOf).join()).toMatch(/joins and shares 4 blocks, held by 3 now/);
  expect(spokenOf(scenes[1] as Scene)).toMatch(/^Step 1: sequence 1 comes with a prompt of 7 tokens; /);
});

test("old moments give way, and those that are left can be gone back to", () => {
  const state = RECORDINGS.small.file.news[0] as Telling;
  const recording = recorded([state]);
  for (let id = 1; id <= 20_000; id++)
    recording.add({ type: "step", id, step: id, ns: id, happened: [], waits: [] });
  expect(recording.last).toBe(20_001);
  expect(recording.last - recording.first).toBeLessThan(9000);
  expect(recording.brief()).toHaveLength(recording.last - recording.first + 1);
  for (const at of [recording.first, recording.first + 255, recording.first + 256, recording.last])
    expect(recording.moment(at)?.event?.id).toBe(at - 1);
  expect(recording.moment(recording.first - 1)).toBeNull();
  expect(recorded(recording.news()).last).toBe(recording.last - recording.first + 2);
});

test("a gap is no event: a new state begins, and the count goes on", () => {
  const [state, ...steps] = RECORDINGS.small.file.news as [Telling, ...Telling[]];
  const recording = recorded([state, ...steps.slice(0, 3), state, ...steps]);
  expect(recording.last).toBe(4 + 1 + steps.length);
  expect(recording.moment(5)?.event).toBeNull();
  expect(() => recording.add(steps[0] as Telling)).toThrow(Inconsistent);
});

test("what cannot have happened is refused", () => {
  const state = RECORDINGS.small.file.news[0];
  if (state?.type !== "snapshot") throw new Error("no state");
  const event = (...happened: StepNews["happened"]): StepNews => ({
    type: "step",
    id: 1,
    step: 1,
    ns: 0,
    happened,
    waits: [],
  });
  const row = { type: "planned", sequence: 1, request: "", start: 0, num_tokens: 1, samples: true } as const;
  const come = { type: "queued", sequence: 1, request: "", index: 0, num_tokens: 4 } as const;
  for (const [bad, why] of [
    [event({ ...row, blocks: [] }), "Nothing is known of sequence 1"],
    [event(come, { ...row, blocks: [5] }, { ...row, blocks: [5] }), "handed out and was not free"],
    [event(come, { type: "left", sequence: 1, why: "aborted", blocks: [5] }), "gives back [5] and held []"],
    [{ ...event(), id: 7 }, "Event 7 follows event 0"],
  ] as const)
    expect(() => new Owners(state).apply(bad)).toThrow(why);
});

test("a file is looked at field by field", () => {
  const { file } = RECORDINGS.small;
  const bad = (change: object): string => JSON.stringify({ ...file, ...change });
  expect(() => parseEvents("meow")).toThrow("This is not JSON");
  expect(() => parseEvents(bad({ kind: "run" }))).toThrow('kind is "run"; it can be pellucid-events');
  expect(() => parseEvents(bad({ schema: 2 }))).toThrow("schema is 2; this page reads schema 1");
  expect(() => parseEvents(bad({ news: file.news.slice(1) }))).toThrow("news[0] has to be a snapshot");
  expect(() => parseEvents(bad({ news: [file.news[0], { type: "step", id: 1 }] }))).toThrow(
    "news[1].step is missing",
  );
});

test("the table has a row for each thing that happened, and as many columns in each", () => {
  const { news } = RECORDINGS.small.file;
  const rows = eventsTable(news)
    .trimEnd()
    .split("\r\n")
    .map((row) => row.split(","));
  const happened = news.flatMap((one) => (one.type === "step" ? [...one.happened, ...one.waits] : []));
  expect(rows[0]).toEqual([...HEADER]);
  expect(rows).toHaveLength(1 + happened.length);
  expect(new Set(rows.map((row) => row.length)).size).toBe(1);
});

test("numbers in a row are written short", () => {
  expect(ranges([1, 2, 3, 7, 9, 10])).toBe("1–3, 7, 9–10");
  expect(ranges([])).toBe("");
  expect(named([1, 2, 3])).toBe("1, 2 and 3");
  expect(named([1, 2, 3, 4, 5, 6, 7])).toBe("1, 2, 3, 4, 5 and 2 more");
  expect([bytes(0), bytes(46_080), bytes(24_159_191_040)]).toEqual(["0 B", "46.1 kB", "24.2 GB"]);
});
