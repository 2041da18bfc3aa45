// Everything the engine has told, so that any moment of it can be gone back to.
//
// Events are kept in segments that begin with a state. To see one moment, its segment is gone through
// from there, at most `LENGTH` events; the oldest segment gives way when there are too many.

import type { Snapshot, StepNews, Telling } from "./news";
import { Owners } from "./owners";

const LENGTH = 256;
const SEGMENTS = 32;

interface Segment {
  /** The moment of its state; the first event is one later. */
  readonly first: number;
  readonly state: Snapshot;
  readonly steps: StepNews[];
  /** Whether the engine told the state: there was nothing before, or a gap. */
  readonly told: boolean;
}

/** A moment: the state before, and the event that was told; null where only the state was. */
export interface Moment {
  readonly at: number;
  readonly before: Owners;
  readonly event: StepNews | null;
}

/** A moment among all, in brief. */
export interface Mark {
  readonly used: number;
  readonly preempted: boolean;
}

export class Recording {
  private segments: Segment[] = [];
  private now: Owners | null = null;
  /** Counts up with all that is told, and goes on when old moments give way. */
  private next = 1;
  /** Of each moment from `start` on, how full the pool was and whether something stands out. */
  private marks: Mark[] = [];
  private start = 1;
  /** Blocks that somebody has held at any time. */
  readonly everHeld = new Set<number>();

  get isEmpty(): boolean {
    return this.segments.length === 0;
  }

  /** The earliest moment that can be gone back to. */
  get first(): number {
    const [oldest] = this.segments;
    return oldest ? oldest.first + Number(!oldest.told) : 0;
  }

  get last(): number {
    return this.next - 1;
  }

  /** Throws `Inconsistent` where something is missing before it. */
  add(news: Telling): void {
    if (news.type === "snapshot") {
      this.now = new Owners(news);
      this.begin(news, true);
      for (const { blocks } of news.sequences) blocks.forEach((block) => this.everHeld.add(block));
      this.mark(false);
      return;
    }
    const last = this.segments.at(-1);
    if (!this.now || !last) return; // what comes before the first state belongs to nothing
    this.now.apply(news);
    last.steps.push(news);
    this.next += 1;
    for (const one of news.happened)
      if (one.type === "planned") one.blocks.forEach((block) => this.everHeld.add(block));
    this.mark(news.happened.some((one) => one.type === "left" && one.why === "preempted"));
    if (last.steps.length >= LENGTH) this.begin(this.now.state(), false);
  }

  moment(at: number): Moment | null {
    const segment = this.segments.filter(({ first, told }) => first < at || (told && first === at)).at(-1);
    if (!segment || at > this.last) return null;
    const before = new Owners(segment.state);
    const place = at - segment.first - 1;
    segment.steps.slice(0, Math.max(0, place)).forEach((step) => before.apply(step));
    return { at, before, event: segment.steps[place] ?? null };
  }

  /** All of it, beginning with a state. */
  news(): Telling[] {
    return this.segments.flatMap(({ state, steps, told }, index) =>
      told || index === 0 ? [state, ...steps] : steps,
    );
  }

  /** Of the moments from `first` to `last`. */
  brief(): readonly Mark[] {
    return this.marks.slice(this.first - this.start);
  }

  private mark(preempted: boolean): void {
    this.marks.push({ used: this.now?.holders.size ?? 0, preempted });
  }

  private begin(state: Snapshot, told: boolean): void {
    this.segments.push({ first: told ? this.next : this.last, state, steps: [], told });
    if (told) this.next += 1;
    if (this.segments.length <= SEGMENTS) return;
    this.segments.shift();
    this.marks = [...this.brief()];
    this.start = this.first;
  }
}
