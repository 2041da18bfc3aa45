import fc from "fast-check";
import { expect, test } from "vitest";
import { eventsOf } from "../../src/api/events";

/** A stream of these bytes, cut at these places. */
function streamOf(bytes: Uint8Array, cuts: readonly number[]): ReadableStream<Uint8Array> {
  const places = [0, ...[...cuts].map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return new ReadableStream({
    start(controller) {
      for (let i = 1; i < places.length; i++) controller.enqueue(bytes.slice(places[i - 1], places[i]));
      controller.close();
    },
  });
}

async function all(stream: ReadableStream<Uint8Array>): Promise<unknown[]> {
  const events: unknown[] = [];
  for await (const event of eventsOf(stream)) events.push(event);
  return events;
}

test("events arrive whole, wherever the network cuts them", async () => {
  const values = fc.array(fc.record({ text: fc.string({ unit: "grapheme" }), number: fc.integer() }));
  await fc.assert(
    fc.asyncProperty(values, fc.array(fc.nat()), fc.constantFrom("\n", "\r\n"), async (events, cuts, end) => {
      const text = events
        .map((event) => `: keep-alive${end}${end}data: ${JSON.stringify(event)}${end}${end}`)
        .join("");
      expect(await all(streamOf(new TextEncoder().encode(text), cuts))).toEqual(events);
    }),
  );
});

test("[DONE] ends the stream, a last line without an end counts", async () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  expect(await all(streamOf(bytes("data: 1\n\ndata: [DONE]\n\ndata: 2\n\n"), []))).toEqual([1]);
  expect(await all(streamOf(bytes('data: {"a":1}'), []))).toEqual([{ a: 1 }]);
});
