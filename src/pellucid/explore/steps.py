"""The steps that a workload takes, as rows of new tokens behind stored ones.

There are no phases here either: decoding, a whole prompt, a chunk of one and the verification of
drafts differ in how many of each a row has.

                            rows       new            stored before
    decode                  batch      1 + drafts     length - 1
    whole prompts           batch      length         prefix
    a chunk of them         a few      up to chunk    prefix and earlier chunks
    decode, no KV cache     batch      length         0

n new tokens behind p stored ones see p·n + n(n+1)/2 positions, fewer under a sliding window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pellucid.explore.workload import Choices, Workload

MANY_PIECES = 64
PIECES = (*range(MANY_PIECES), *(round(2 ** (n / 8)) for n in range(8 * 6 + 1, 8 * 24)))
"""Of a prompt that is computed in many, those that are looked at, besides the last two: all of the
first, then eight an octave. They are the same for every length, so that each is priced once."""


@dataclass(frozen=True, slots=True)
class AlikeRows:
    """Rows of one step that are alike."""

    num: int
    new: int
    """Tokens computed in each."""
    prefix: int
    """Tokens stored before them."""
    num_sampled: int
    """Of the new ones, the last so many are sampled from."""


Step = tuple[float, tuple[AlikeRows, ...]]
"""How often there is a step of these rows, and the rows."""


def steps_of(workload: Workload, choices: Choices) -> list[Step]:
    """The steps that the workload takes, each a list of its rows, and how often there is one.

    Without a KV cache a decode step computes the whole prefix again. Prompts stand one behind the
    other and are cut every `chunked_prefill` tokens. Of many such pieces only some are looked at:
    what a piece takes grows with what was stored before it, and some stand for all
    (`spread_over`). Many long prompts are then cut each for itself, as if no piece held the end of
    one and the beginning of the next.
    """
    length, batch = workload.length, workload.batch
    if workload.phase == "decode" and choices.kv_cache == "on":
        new = 1 + choices.drafts
        return [(1, (AlikeRows(batch, new, length - 1, new),))]
    everything = batch * length
    size = choices.chunked_prefill or everything
    last = -(-everything // size) - 1
    if last > MANY_PIECES and batch > 1 and length >= size:
        one = steps_of(replace(workload, batch=1), choices)
        return [(batch * times, rows) for times, rows in one]
    nodes = [piece for piece in PIECES if piece < last - 1]
    pieces = [*spread_over([*nodes, max(0, last - 1)], 0, last - 1), (last, 1.0)]
    return [
        (times, tuple(cut(piece * size, min((piece + 1) * size, everything), workload)))
        for piece, times in pieces
    ]


def spread_over(nodes: Sequence[int], first: int, last: int) -> list[tuple[int, float]]:
    """Some of `nodes` and how often each counts in a sum over first, first + 1, …, last.

    nodes: ascending. A number between two nodes counts for both, and for the nearer one more; one
    that lies outside counts for the last node on its side. Four numbers over nodes 0 and 3:

        0 → 1·f(0)   1 → ⅔·f(0) + ⅓·f(3)   2 → ⅓·f(0) + ⅔·f(3)   3 → 1·f(3)     2·f(0) + 2·f(3)
    """
    if first > last:
        return []
    numbers = np.arange(first, last + 1)
    known = np.array(nodes)
    right = np.clip(np.searchsorted(known, numbers), 0, len(known) - 1)
    left = np.maximum(right - 1, 0)
    gap = np.maximum(known[right] - known[left], 1)
    part = np.where(left == right, 1.0, np.clip((numbers - known[left]) / gap, 0.0, 1.0))
    counts = np.bincount(right, part, len(known)) + np.bincount(left, 1 - part, len(known))
    return [(int(node), float(n)) for node, n in zip(known, counts, strict=True) if n]


def cut(begin: int, end: int, workload: Workload) -> list[AlikeRows]:
    """Tokens begin .. end-1 of the prompts; the last one of each is sampled from."""
    rows = []
    while begin < end:
        first = begin % workload.length
        stop = min(workload.length, first + end - begin)
        is_whole = stop == workload.length
        rows.append(AlikeRows(1, stop - first, workload.prefix + first, int(is_whole)))
        begin += stop - first
    return rows


def sampled_part(rows: Iterable[AlikeRows]) -> list[AlikeRows]:
    """What the last layer computes of the rows: the tokens that are sampled from."""
    return [
        AlikeRows(r.num, r.num_sampled, r.prefix + r.new - r.num_sampled, r.num_sampled)
        for r in rows
        if r.num_sampled
    ]


def num_tokens(rows: Iterable[AlikeRows]) -> int:
    return sum(r.num * r.new for r in rows)


def num_rows(rows: Iterable[AlikeRows]) -> int:
    return sum(r.num for r in rows)


def positions_seen(new: int, prefix: int, window: int = 0) -> int:
    """Query-key pairs of `new` tokens behind `prefix`: the causal triangle on its rectangle."""
    pairs = new * prefix + new * (new + 1) // 2
    if not window:
        return pairs
    num_cut = min(new, max(0, prefix + new - window))  # tokens that see less than all before them
    longest = prefix + new - window
    return pairs - (num_cut * longest - num_cut * (num_cut - 1) // 2)


def positions_read(new: int, prefix: int, window: int = 0) -> int:
    """Positions whose keys and values any of the tokens sees."""
    return min(prefix + new, window + new - 1) if window else prefix + new
