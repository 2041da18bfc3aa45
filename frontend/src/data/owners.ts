// Who holds which block, worked out from events alone, as `owners.py` does. What cannot have happened
// is refused, so that a stream with a hole in it is not drawn as if it were whole.

import type { Departure, Happening, SequenceState, Snapshot, StepNews } from "./news";

export class Inconsistent extends Error {}

/** After these a sequence waits for its next turn. */
export const AGAIN: readonly Departure[] = ["preempted", "restarted"];

/** One sequence while events are applied. */
export type Sequence = { -readonly [Key in keyof SequenceState]: SequenceState[Key] } & { blocks: number[] };

export class Owners {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly sequences = new Map<number, Sequence>();
  /** The sequences that hold each block, in the order of taking; a free block is not in it. */
  readonly holders = new Map<number, number[]>();
  id: number;
  step: number;
  ns: number;

  constructor(state: Snapshot) {
    this.numBlocks = state.num_blocks;
    this.blockSize = state.block_size;
    this.id = state.id;
    this.step = state.step;
    this.ns = state.ns;
    for (const each of state.sequences) {
      this.sequences.set(each.sequence, { ...each, blocks: [...each.blocks] });
      for (const block of each.blocks) this.hold(block, each.sequence);
    }
  }

  apply(event: StepNews): void {
    if (event.id !== this.id + 1) throw new Inconsistent(`Event ${event.id} follows event ${this.id}.`);
    event.happened.forEach((one) => this.applyOne(one));
    this.id = event.id;
    this.step = event.step;
    this.ns = event.ns;
  }

  state(): Snapshot {
    const sequences = [...this.sequences.values()].map((each) => ({ ...each, blocks: [...each.blocks] }));
    return {
      type: "snapshot",
      id: this.id,
      step: this.step,
      ns: this.ns,
      num_blocks: this.numBlocks,
      block_size: this.blockSize,
      sequences,
    };
  }

  private applyOne(one: Happening): void {
    if (one.type === "queued") {
      const { sequence, request, index, num_tokens } = one;
      const fresh = { state: "waiting", computed: 0, reached: 0, blocks: [] } as const;
      this.sequences.set(sequence, { sequence, request, index, num_tokens, ...fresh, blocks: [] });
      return;
    }
    const sequence = this.sequences.get(one.sequence);
    if (!sequence) throw new Inconsistent(`Nothing is known of sequence ${one.sequence}.`);
    switch (one.type) {
      case "admitted":
        sequence.state = "running";
        one.shared.forEach((block) => this.share(block, sequence));
        reach(sequence, one.num_computed);
        break;
      case "planned":
        one.blocks.forEach((block) => this.take(block, sequence));
        reach(sequence, one.start + one.num_tokens);
        break;
      case "landed":
        sequence.num_tokens += one.num_tokens;
        break;
      case "forgot":
        sequence.computed = 0;
        break;
      case "left":
        this.leave(sequence, one.why, one.blocks);
    }
  }

  private hold(block: number, sequence: number): void {
    this.holders.set(block, [...(this.holders.get(block) ?? []), sequence]);
  }

  private share(block: number, sequence: Sequence): void {
    if (!this.holders.has(block)) throw new Inconsistent(`Block ${block} is free and cannot be shared.`);
    this.hold(block, sequence.sequence);
    sequence.blocks.push(block);
  }

  private take(block: number, sequence: Sequence): void {
    if (this.holders.has(block)) throw new Inconsistent(`Block ${block} is handed out and was not free.`);
    this.hold(block, sequence.sequence);
    sequence.blocks.push(block);
  }

  private leave(sequence: Sequence, why: Departure, blocks: readonly number[]): void {
    if (blocks.join() !== sequence.blocks.join())
      throw new Inconsistent(
        `Sequence ${sequence.sequence} gives back [${blocks.join()}] and held [${sequence.blocks.join()}].`,
      );
    for (const block of blocks) {
      const others = this.holders.get(block)?.filter((holder) => holder !== sequence.sequence) ?? [];
      if (others.length > 0) this.holders.set(block, others);
      else this.holders.delete(block);
    }
    this.sequences.delete(sequence.sequence);
    if (!AGAIN.includes(why)) return;
    this.sequences.set(sequence.sequence, { ...sequence, state: "waiting", computed: 0, blocks: [] });
  }
}

function reach(sequence: Sequence, computed: number): void {
  sequence.computed = computed;
  sequence.reached = Math.max(sequence.reached, computed);
}
