// A recording of the KV cache as a table: one row for each thing that happened.

import type { Happening, Telling } from "../data/news";
import { csvOf, type Cell } from "./csv";

export const HEADER = [
  "event",
  "step",
  "ns",
  "what",
  "sequence",
  "request",
  "index",
  "start",
  "num_tokens",
  "samples",
  "why",
  "blocks",
  "refs",
] as const;

export const eventsTable = (news: readonly Telling[]): string => csvOf([HEADER, ...news.flatMap(rowsOf)]);

function rowsOf(news: Telling): Cell[][] {
  const when: Cell[] = [news.id, news.step, news.ns];
  if (news.type === "snapshot")
    return news.sequences.map(({ sequence, request, index, num_tokens, state, blocks }) =>
      cells(when, state, { sequence, request, index, num_tokens, blocks }),
    );
  return [
    ...news.happened.map((one) => cells(when, one.type, fieldsOf(one))),
    ...news.waits.map(({ sequence, why }) => cells(when, "waits", { sequence, why })),
  ];
}

interface Columns {
  readonly sequence: number;
  readonly request?: string;
  readonly index?: number;
  readonly start?: number;
  readonly num_tokens?: number;
  readonly samples?: boolean;
  readonly why?: string;
  readonly blocks?: readonly number[];
  readonly refs?: readonly number[];
}

/** An admitted sequence begins with what it shares. */
function fieldsOf(one: Happening): Columns {
  return one.type === "admitted"
    ? { sequence: one.sequence, num_tokens: one.num_computed, blocks: one.shared, refs: one.refs }
    : one;
}

function cells(when: readonly Cell[], what: string, columns: Columns): Cell[] {
  const { sequence, request, index, start, num_tokens, samples, why, blocks, refs } = columns;
  return [
    ...when,
    ...[what, sequence, request ?? "", index ?? "", start ?? "", num_tokens ?? ""],
    ...[
      samples === undefined ? "" : String(samples),
      why ?? "",
      blocks?.join(" ") ?? "",
      refs?.join(" ") ?? "",
    ],
  ];
}
