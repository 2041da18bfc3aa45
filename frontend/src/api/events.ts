// Server-sent events from a streamed response: the JSON after each `data:`, one at a time.
// `EventSource` can neither POST nor send a key, so the stream is read by hand.

const DONE = "[DONE]";

/** `onId` is told the id of an event before the event comes. */
export async function* eventsOf(
  body: ReadableStream<Uint8Array>,
  onId?: (id: string) => void,
): AsyncGenerator<unknown> {
  for await (const line of linesOf(body)) {
    if (line.startsWith("id:")) onId?.(line.slice(3).trim());
    if (!line.startsWith("data:")) continue; // comments keep the connection alive
    const text = line.slice(5).trim();
    if (text === DONE) return;
    if (text) yield JSON.parse(text);
  }
}

/** Lines, however the network cuts them; a character may be cut too. */
async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const lines = rest.split(/\r?\n/);
      rest = done ? "" : (lines.pop() ?? "");
      yield* lines;
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined); // tells the server that nobody listens any more
  }
}
