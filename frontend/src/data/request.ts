// A whole request from measured cells: its prompt, then its output token by token.
//
// The prefill of S tokens yields the first token of the output, so N of them take N - 1 decode steps
// more, which see S + 1 … S + N - 1 tokens:
//
//     time(S) = prefill(S) + decode(S + 1) + … + decode(S + N - 1)
//
// Decode steps are measured at a few lengths; in between, a step is drawn as a straight line in its
// length, block by block, so that a sum has as many samples as its cells and is worth as much. The sum
// of many such steps is the same as a weight for each measured cell. Nothing is drawn out beyond the
// shortest and the longest cell: a prompt whose steps leave them is left out, and the page says so.

import { budgetFrom, type Budget, type Loaded, type Samples } from "./budget";
import type { Cell, RunFile } from "./runfile";
import type { Detail } from "./stages";

/** Which prompts a run's decode cells reach, for so many output tokens. */
export interface Reach {
  readonly prompts: readonly Cell[];
  /** Prompt lengths whose decode steps leave the measured ones. */
  readonly tooShort: readonly number[];
  readonly tooLong: readonly number[];
  /** The shortest and the longest decode cell. */
  readonly least: number;
  readonly most: number;
}

const HOW = "summed and interpolated";

export function reachOf(run: RunFile, batch: number, numOutputs: number): Reach {
  const lengths = cellsOf(run, "decode", batch).map(({ length }) => length);
  const [least, most] = [lengths[0] ?? Infinity, lengths.at(-1) ?? 0];
  const prompts = cellsOf(run, "prefill", batch);
  const starts = ({ length }: Cell): boolean => numOutputs === 1 || length + 1 >= least;
  const ends = ({ length }: Cell): boolean => numOutputs === 1 || length + numOutputs - 1 <= most;
  const lengthsOf = (cells: readonly Cell[]): number[] => cells.map(({ length }) => length);
  return {
    prompts: prompts.filter((cell) => starts(cell) && ends(cell)),
    tooShort: lengthsOf(prompts.filter((cell) => !starts(cell))),
    tooLong: lengthsOf(prompts.filter((cell) => starts(cell) && !ends(cell))),
    least,
    most,
  };
}

/** The budget of requests with `numOutputs` tokens of output; null if no prompt's can be told. */
export function requestOf(
  { run, kind }: Loaded,
  batch: number,
  numOutputs: number,
  detail: Detail,
): Budget | null {
  const steps = cellsOf(run, "decode", batch);
  if (steps.length === 0) return null;
  const requests = reachOf(run, batch, numOutputs).prompts.map((prompt) => {
    const weights = weightsOf(
      steps.map(({ length }) => length),
      prompt.length + 1,
      prompt.length + numOutputs - 1,
    );
    return summed(prompt, steps, weights);
  });
  return budgetFrom(requests, { phase: "request", batch, kind, how: HOW }, detail);
}

/** The cells of one phase and batch, the shortest first. */
function cellsOf(run: RunFile, phase: Cell["phase"], batch: number): Cell[] {
  const cells = run.cells.filter((cell) => cell.phase === phase && cell.batch === batch);
  return cells.sort((a, b) => a.length - b.length);
}

/**
 * How often each measured length counts in a sum over `first` … `last`, all of them within range.
 *
 * A length between two measured ones counts for both, and for the nearer one more.
 */
export function weightsOf(lengths: readonly number[], first: number, last: number): number[] {
  const weights = lengths.map(() => 0);
  const add = (index: number, weight: number): void => {
    weights[index] = (weights[index] ?? 0) + weight;
  };
  let right = 0;
  for (let length = first; length <= last; length++) {
    while ((lengths[right] ?? Infinity) < length) right += 1;
    const [below, above] = [lengths[right - 1], lengths[right] ?? length];
    const part = below === undefined ? 1 : (length - below) / (above - below);
    add(right, part);
    if (part < 1) add(right - 1, 1 - part);
  }
  return weights;
}

/** A prompt and its decode steps, block by block, for as many blocks as all of them have. */
function summed(prompt: Cell, steps: readonly Cell[], weights: readonly number[]): Samples {
  const used = steps.map((cell, index) => ({ cell, weight: weights[index] ?? 0 }));
  const cells = [{ cell: prompt, weight: 1 }, ...used.filter(({ weight }) => weight > 0)];
  const numBlocks = Math.min(...cells.map(({ cell }) => cell.wall_ns.length));
  const total = (of: (cell: Cell) => readonly number[] | undefined): number[] =>
    Array.from({ length: numBlocks }, (_, block) =>
      cells.reduce((sum, { cell, weight }) => sum + weight * (of(cell)?.[block] ?? 0), 0),
    );
  const stages = new Set(cells.flatMap(({ cell }) => Object.keys(cell.stages_ns)));
  return {
    length: prompt.length,
    wall_ns: total((cell) => cell.wall_ns),
    timed_wall_ns: total((cell) => cell.timed_wall_ns),
    stages_ns: Object.fromEntries(
      [...stages].map((stage) => [stage, total((cell) => cell.stages_ns[stage])]),
    ),
  };
}
