// One moment of the KV cache, ready to be drawn and told: each block with its owners and with what the
// step writes into it and reads from it.

import type { StepNews } from "./news";
import { AGAIN, type Sequence } from "./owners";
import type { Moment } from "./recording";

/** A row of the step. Positions below `reached` had been computed before. */
export interface RowView {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
  readonly reached: number;
}

export interface BlockView {
  readonly block: number;
  /** Who holds it after the step; after a block was freed, who held it before. */
  readonly owners: readonly number[];
  readonly change: "taken" | "shared" | "freed" | "none";
  /** Of its places: with something stored before the step, computed again by it, new by it. */
  readonly kept: number;
  readonly again: number;
  readonly fresh: number;
  /** Whether attention reads it in this step. */
  readonly read: boolean;
}

export interface Scene {
  readonly at: number;
  readonly step: number;
  readonly event: StepNews | null;
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly sequences: readonly Sequence[];
  readonly rows: readonly RowView[];
  /** By number; free ones only where the step freed them. */
  readonly blocks: ReadonlyMap<number, BlockView>;
  readonly numUsed: number;
  /** Tokens with a place of their own in the used blocks; a shared block's count once. */
  readonly stored: number;
  readonly computed: number;
  readonly fresh: number;
}

export function sceneOf({ at, before, event }: Moment): Scene {
  const held = new Map([...before.holders].map(([block, owners]) => [block, owners] as const));
  const tables = new Map([...before.sequences.values()].map((each) => [each.sequence, [...each.blocks]]));
  const reached = new Map([...before.sequences.values()].map((each) => [each.sequence, each.reached]));
  const kept = new Map([...before.sequences.values()].map((each) => [each.sequence, each.computed]));
  const rows = rowsOf(event, reached);
  const { taken, shared } = changesOf(event);
  for (const one of event?.happened ?? []) {
    if (one.type === "admitted") {
      tables.set(one.sequence, [...one.shared]);
      kept.set(one.sequence, one.num_computed);
    }
    if (one.type === "planned") tables.get(one.sequence)?.push(...one.blocks);
    if (one.type === "left" && AGAIN.includes(one.why)) kept.delete(one.sequence); // nothing is drawn of it
  }
  if (event) before.apply(event);
  const after = before;
  const blocks = new Map<number, BlockView>();
  for (const [sequence, table] of tables) {
    const row = rows.find((each) => each.sequence === sequence);
    table.forEach((block, place) => {
      const owners = after.holders.get(block);
      if (owners && !owners.includes(sequence)) return; // it has gone, and others have the block now
      const change = owners ? (taken.has(block) ? "taken" : shared.has(block) ? "shared" : "none") : "freed";
      const view = {
        block,
        owners: owners ?? held.get(block) ?? [sequence],
        change,
        ...filled(place * after.blockSize, after.blockSize, kept.get(sequence) ?? 0, row),
        read: row !== undefined && place * after.blockSize < row.end,
      } as const;
      blocks.set(block, fuller(blocks.get(block), view));
    });
  }
  const used = [...blocks.values()].filter(({ change }) => change !== "freed");
  const sum = (of: (view: BlockView) => number): number => used.reduce((total, view) => total + of(view), 0);
  return {
    at,
    step: after.step,
    event,
    numBlocks: after.numBlocks,
    blockSize: after.blockSize,
    sequences: [...after.sequences.values()],
    rows,
    blocks,
    numUsed: after.holders.size,
    stored: sum((view) => view.kept + view.again + view.fresh),
    computed: rows.reduce((total, { start, end }) => total + end - start, 0),
    fresh: rows.reduce((total, row) => total + Math.max(0, row.end - Math.max(row.start, row.reached)), 0),
  };
}

function rowsOf(event: StepNews | null, reached: ReadonlyMap<number, number>): RowView[] {
  return (event?.happened ?? []).flatMap((one) =>
    one.type === "planned"
      ? [
          {
            sequence: one.sequence,
            start: one.start,
            end: one.start + one.num_tokens,
            reached: reached.get(one.sequence) ?? 0,
          },
        ]
      : [],
  );
}

function changesOf(event: StepNews | null): { taken: Set<number>; shared: Set<number> } {
  const happened = event?.happened ?? [];
  return {
    taken: new Set(happened.flatMap((one) => (one.type === "planned" ? one.blocks : []))),
    shared: new Set(happened.flatMap((one) => (one.type === "admitted" ? one.shared : []))),
  };
}

/** What of the `size` places from position `from` on is kept, computed again, and new. */
function filled(
  from: number,
  size: number,
  kept: number,
  row: RowView | undefined,
): Pick<BlockView, "kept" | "again" | "fresh"> {
  const within = (start: number, end: number): number =>
    Math.max(0, Math.min(end, from + size) - Math.max(start, from));
  if (!row) return { kept: within(0, kept), again: 0, fresh: 0 };
  const split = Math.min(row.end, Math.max(row.start, row.reached));
  return {
    kept: within(0, Math.min(kept, row.start)),
    again: within(row.start, split),
    fresh: within(split, row.end),
  };
}

/** Of a shared block the view of that owner who has more to show. */
function fuller(known: BlockView | undefined, view: BlockView): BlockView {
  if (!known) return view;
  const much = ({ kept, again, fresh }: BlockView): number => kept + again + fresh;
  const best = much(view) > much(known) ? view : known;
  return { ...best, read: known.read || view.read };
}
