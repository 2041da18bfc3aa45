"""What steps are padded to: few shapes, so that few graphs cover all steps. No tensors.

A *decode* step has one new token in each row; a *ragged* step has rows of any lengths. Either also
says what is drawn from its logits (`sampling.Draw`). The same shape is the same launches.

    64 rows that decode, temperatures only       Shape(rows=64)
    3 rows, a prompt of 300 among them, top-p    Shape(rows=4, tokens=320, draw=TRUNCATED)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from pellucid.request import Row
from pellucid.sampling.sampler import EVERYTHING, PLAIN, TRUNCATED, Draw


class Shape(NamedTuple):
    """What a step is padded to."""

    rows: int
    tokens: int = 0
    """Of a ragged step; 0: one a row."""
    draw: Draw = PLAIN


DECODE_ROWS = (1, 2, 4, 8, 12, *range(16, 64, 8), *range(64, 128, 16), *range(128, 4097, 32))
"""Closer than powers of two: a wasted row still reads and writes."""

RAGGED_ROWS = (1, 4, 16, 64, 256, 1024, 4096)
"""A wasted row costs its logits; the rest of the step has nothing to do with it."""

RAGGED_TOKENS = (16, 32, *range(64, 1024, 64), *range(1024, 4097, 128))
"""A matrix product is cut into tiles of 64 or 128 rows: within one, more rows cost nothing. A step
with more than the last of these keeps a GPU busy for longer than it takes to launch it."""

MOST_PADDING = RAGGED_TOKENS[-1]
"""Tokens of padding in one step: a graph is recorded of a step that is nothing else. They are one
sequence, whose block table must be that long."""


def padded_rows(num_rows: int) -> int:
    """The least of `DECODE_ROWS` that holds `num_rows`."""
    return least(DECODE_ROWS, num_rows)


def least(sizes: Sequence[int], wanted: int) -> int:
    """The least of `sizes`, which ascend, that is at least `wanted`."""
    return sizes[bisect_left(sizes, wanted)]


def is_decode(rows: Sequence[Row]) -> bool:
    """Whether every row computes one token, samples the next and wants nothing else."""
    return all(len(row.tokens) == 1 and row.samples and not row.targets for row in rows)


class Shapes:
    """The shapes of steps of up to `max_rows` rows and `max_tokens` tokens."""

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self.max_rows = padded_rows(max_rows)
        """Rows of the largest shapes."""
        most = least(RAGGED_TOKENS, min(max_tokens, RAGGED_TOKENS[-1]))
        self._tokens = RAGGED_TOKENS[: RAGGED_TOKENS.index(most) + 1]
        self._rows = sorted({min(size, self.max_rows) for size in RAGGED_ROWS})

    def shape_of(self, rows: Sequence[Row], draw: Draw = PLAIN) -> Shape | None:
        """What a step of these rows is padded to; None if it is not: too many tokens, or prompts
        whose every token is scored."""
        if is_decode(rows):
            return Shape(padded_rows(len(rows)), 0, draw)
        num_tokens = sum(len(row.tokens) for row in rows)
        if num_tokens > self._tokens[-1] or any(row.targets for row in rows):
            return None
        return Shape(least(self._rows, len(rows)), least(self._tokens, num_tokens), draw)

    def largest(self) -> tuple[Shape, Shape]:
        """The shape of each kind that takes the most memory."""
        return Shape(self.max_rows), Shape(self.max_rows, self._tokens[-1])

    def all(self, draws: Sequence[Draw] = (PLAIN, TRUNCATED)) -> list[Shape]:
        """All shapes that a step can have with these draws, the largest first, so that the graphs
        of the smaller ones fit into the memory that it set aside."""
        fewer = (0, *self._rows)
        ragged = [
            Shape(rows, tokens, draw)
            for draw in draws
            for tokens in self._tokens
            for rows, less in zip(self._rows, fewer, strict=False)
            if tokens > less + 1 or rows == 1
        ]
        decode = [
            Shape(rows, 0, draw) for draw in draws for rows in DECODE_ROWS if rows <= self.max_rows
        ]
        return [*reversed(ragged), *reversed(decode)]

    def of_each_kernel(self, most_tokens: int) -> list[Shape]:
        """A few shapes that between them launch every kernel that a step up to `most_tokens` tokens
        launches, in each form that it is compiled in."""
        few = [rows for rows in DECODE_ROWS if rows <= min(self.max_rows, 16)]
        return [
            *(Shape(rows, 0, draw) for rows in (1, self.max_rows) for draw in (PLAIN, EVERYTHING)),
            *(Shape(rows) for rows in few if rows not in (1, self.max_rows)),
            *(
                Shape(rows, self._tokens[0])
                for rows in self._rows
                if rows <= self._tokens[0] <= most_tokens
            ),
        ]

    def common(self) -> list[Shape]:
        """Shapes that the first requests are likely to need, the likeliest first: decoding, then
        prompts of a few requests at a time."""
        decode = [rows for rows in DECODE_ROWS if rows <= min(self.max_rows, 64)]
        few = [rows for rows in self._rows if rows <= 16]
        draws = (PLAIN, TRUNCATED)
        return [
            *(Shape(rows, 0, draw) for rows in decode for draw in draws),
            *(
                Shape(rows, tokens, draw)
                for tokens in self._tokens
                for draw in draws
                for rows in few
                if tokens > 2 * rows
            ),
        ]
