"""Inputs of padded steps: few shapes, and buffers that stay where they are.

Problem: a captured CUDA graph repeats launches as they were, with the same sizes and addresses, and
no two steps have the same tokens and rows.

Idea: a step is padded to one of a few shapes, and every input lies in a buffer that lives as long
as the engine. There are two kinds of shape. In a *decode* step each row has one new token, which is
all that the host sends; the rest follows on the device. In a *ragged* step rows have any lengths:

    tokens   │ row 0 │ row 1 ...... │ row 2 │ padding                  │
    rows     │ 0, 1, 2, places that the step does not need │ padding   │

Padding is a sequence like any other, so that nothing has to be told apart: it lives in a spare
block which no sequence ever gets, and what it computes is nobody's. A padding row of a decode step
is such a sequence of one token; the padding tokens of a ragged step are one such row, behind all
others. Its places for rows that
the step does not need do cost something, the LM head above all, and so do its padding tokens:
shapes are as close as the work that they waste is cheap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from pellucid.attention import PaddedAttention, PaddedRows
from pellucid.request import Row
from pellucid.runner.inputs import Places, entry


class Shape(NamedTuple):
    """What a step is padded to. The same shape is the same launches."""

    rows: int
    tokens: int = 0
    """Of a ragged step; 0: one a row."""


DECODE_ROWS = (1, 2, 4, 8, 12, *range(16, 64, 8), *range(64, 128, 16), *range(128, 4097, 32))
"""Closer than powers of two: a wasted row still reads and writes."""

RAGGED_ROWS = (1, 4, 16, 64, 256, 1024, 4096)
"""A wasted place costs its logits; the rest of the step has nothing to do with it."""

RAGGED_TOKENS = (16, 32, *range(64, 1024, 64), *range(1024, 4097, 128))
"""A matrix product is cut into tiles of 64 or 128 rows: within one, more rows cost nothing. A step
with more than the last of these keeps a GPU busy for longer than it takes to launch it."""


def padded_rows(num_rows: int) -> int:
    """The least of `DECODE_ROWS` that holds `num_rows`."""
    return least(DECODE_ROWS, num_rows)


def least(sizes: Sequence[int], wanted: int) -> int:
    """The least of `sizes`, which ascend, that is at least `wanted`."""
    return sizes[bisect_left(sizes, wanted)]


def is_decode(rows: Sequence[Row]) -> bool:
    """Whether every row computes one token, samples the next and wants nothing else."""
    return all(len(row.tokens) == 1 and row.samples and not row.scores_prompt for row in rows)


class Ragged(NamedTuple):
    """Inputs of a ragged step of T tokens in R places, on the host (numpy) or on the device."""

    tokens: Any
    """int64 [T]: ids, or -1 - i for a token of the step before"""
    positions: Any
    """int64 [T]"""
    slots: Any
    """int64 [T]: where in the KV pool each one's keys and values go"""
    lasts: Any
    """int64 [R]: each row's last token"""
    ends: Any
    """int64 [R]: its position"""
    rows: PaddedRows


class PaddedInputs:
    """Buffers for padded steps of up to `max_rows` rows, at most the last of `DECODE_ROWS`, and
    `max_tokens` tokens.

    The host writes to pinned memory and the copy to the device is queued behind the step that is
    running; two staging buffers take turns, since a buffer may be read until the step that it
    belongs to has begun, and the step before that one has then ended. What changes only when a
    sequence comes, goes or gets a block (tables, temperatures, seeds) crosses only then.
    """

    def __init__(
        self,
        max_rows: int,
        max_tokens: int,
        max_blocks: int,
        block_size: int,
        spare_block: int,
        attention: PaddedAttention,
        device: torch.device,
    ):
        self.capacity = rows = padded_rows(max_rows)
        self.device = device
        self._block_size = block_size
        self._spare = spare_block
        self._attention = attention
        most = least(RAGGED_TOKENS, min(max_tokens, RAGGED_TOKENS[-1]))
        self._token_sizes = RAGGED_TOKENS[: RAGGED_TOKENS.index(most) + 1]
        self._row_sizes = sorted({min(size, rows) for size in RAGGED_ROWS})
        # Padding tokens are a row of the spare block alone, and as long as the widest gap.
        gap = max(b - a for a, b in pairwise((0, *RAGGED_TOKENS)))
        columns = max(max_blocks, -(-gap // block_size))
        self.tables = torch.full((rows + 1, columns), spare_block, dtype=torch.int32, device=device)
        """int32 [capacity + 1, blocks]; behind a ragged step's rows, that of its padding tokens"""
        self.temperatures = torch.zeros(rows, dtype=torch.float32, device=device)
        self.seeds = torch.zeros(rows, dtype=torch.int64, device=device)
        size = max(2 * rows, sum(self._sizes(Shape(rows, most))))
        self._numbers = torch.zeros(size, dtype=torch.int64, device=device)
        pinned = device.type == "cuda"
        self._stages = [_Stage(size, rows, columns, pinned) for _ in range(2)]
        self._mirror = np.full((rows + 1, columns), spare_block, dtype=np.int32)
        self._settings = np.zeros(rows, dtype=np.float32)
        self._row_seeds = np.zeros(rows, dtype=np.int64)
        self._held = [_NOBODY] * (rows + 1)

    def shape_of(self, rows: Sequence[Row]) -> Shape | None:
        """What a step of these rows is padded to; None if it is not: too many tokens, or prompts
        whose every token is scored."""
        if is_decode(rows):
            return Shape(padded_rows(len(rows)))
        num_tokens = sum(len(row.tokens) for row in rows)
        if num_tokens > self._token_sizes[-1] or any(row.scores_prompt for row in rows):
            return None
        return Shape(least(self._row_sizes, len(rows)), least(self._token_sizes, num_tokens))

    def largest(self) -> tuple[Shape, Shape]:
        """The shape of each kind that takes the most memory."""
        return Shape(self.capacity), Shape(self.capacity, self._token_sizes[-1])

    def shapes(self) -> list[Shape]:
        """All shapes that a step can have, the largest first."""
        decode = [Shape(rows) for rows in DECODE_ROWS if rows <= self.capacity]
        fewer = (0, *self._row_sizes)
        ragged = [
            Shape(rows, tokens)
            for tokens in self._token_sizes
            for rows, less in zip(self._row_sizes, fewer, strict=False)
            if tokens > less + 1 or rows == 1
        ]
        return [*reversed(ragged), *reversed(decode)]

    def fill(self, rows: Sequence[Row], places: Places, shape: Shape) -> None:
        """Bring the rows over, those that sample first. No rows: all of it is padding."""
        stage = self._stages[0]
        self._stages.reverse()
        size, numbers = shape.rows, stage.numbers_view
        # Behind the rows of a ragged step stands the table of its padding.
        num_tables = size + 1 if shape.tokens else size
        changed = self._note(rows, num_tables)
        if shape.tokens:
            used = sum(self._sizes(shape))
            numbers[:used] = 0
            self._fill_ragged(self._cut(numbers, shape), rows, places)
        else:
            used = 2 * size
            numbers[:used] = 0
            numbers[: len(rows)] = [entry(row, places) for row in rows]
            numbers[size : size + len(rows)] = [row.start for row in rows]
        self._numbers[:used].copy_(stage.numbers[:used], non_blocking=True)
        if changed:
            stage.tables_view[:num_tables] = self._mirror[:num_tables]
            stage.temperatures_view[:size] = self._settings[:size]
            stage.seeds_view[:size] = self._row_seeds[:size]
            self.tables[:num_tables].copy_(stage.tables[:num_tables], non_blocking=True)
            self.temperatures[:size].copy_(stage.temperatures[:size], non_blocking=True)
            self.seeds[:size].copy_(stage.seeds[:size], non_blocking=True)

    def tokens(self, shape: Shape) -> torch.Tensor:
        """int64 [rows] of a decode step: token ids, or -1 - i for a token of the step before."""
        return self._numbers[: shape.rows]

    def positions(self, shape: Shape) -> torch.Tensor:
        """int64 [rows] of a decode step"""
        return self._numbers[shape.rows : 2 * shape.rows]

    def ragged(self, shape: Shape) -> Ragged:
        """The inputs of a ragged step."""
        return self._cut(self._numbers, shape)

    def _sizes(self, shape: Shape) -> list[int]:
        """How many int64 each input of a ragged step takes, in whole 16 bytes: for addresses that
        are no multiples of those, Triton would compile its kernels once more."""
        num_rows, num_tokens = shape
        triples, ints = 3 * (num_rows + 1), num_rows
        sizes = (
            *(num_tokens, num_tokens, num_tokens, num_rows, num_rows),
            *(self._most_tiles(shape), -(-triples // 2), -(-ints // 2), -(-ints // 2)),
        )
        return [size + size % 2 for size in sizes]

    def _most_tiles(self, shape: Shape) -> int:
        return self._attention.most_tiles(shape.tokens, shape.rows + 1)

    def _cut(self, numbers: Any, shape: Shape) -> Ragged:
        """The buffer, numpy's or torch's, as the inputs that it holds in a step of this shape."""
        ends_at = (0, *accumulate(self._sizes(shape)))
        tokens, positions, slots, lasts, ends, *others = (
            numbers[begin:end] for begin, end in pairwise(ends_at)
        )
        int32 = np.int32 if isinstance(numbers, np.ndarray) else torch.int32
        tiles, rows, firsts, contexts = (part.view(int32) for part in others)
        num_rows, num_tiles = shape.rows, self._most_tiles(shape)
        padded = PaddedRows(
            tiles=tiles[: 2 * num_tiles].reshape(-1, 2),
            rows=rows[: 3 * (num_rows + 1)].reshape(-1, 3),
            firsts=firsts[:num_rows],
            contexts=contexts[:num_rows],
            tables=self.tables,
        )
        return Ragged(tokens, positions, slots, lasts[:num_rows], ends[:num_rows], padded)

    def _fill_ragged(self, to: Ragged, rows: Sequence[Row], places: Places) -> None:
        """Write what is not 0."""
        ids: list[int] = []
        for row in rows:
            ids += row.tokens
            ids[-1] = entry(row, places)
        used, count = len(ids), len(rows)
        lengths = np.array([len(row.tokens) for row in rows], dtype=np.int64)
        starts = np.array([row.start for row in rows], dtype=np.int64)
        stops = lengths.cumsum()
        firsts, contexts = stops - lengths, starts + lengths
        to.tokens[:used] = ids
        to.positions[:used] = np.arange(used) + (starts - firsts).repeat(lengths)
        block, within = np.divmod(to.positions[:used], self._block_size)
        blocks = self._mirror[np.arange(count).repeat(lengths), block].astype(np.int64)
        to.slots[:used] = blocks * self._block_size + within
        to.slots[used:] = self._spare * self._block_size
        to.lasts[:count] = stops - 1
        to.ends[:count] = contexts - 1
        single = (lengths == 1) & (len(to.lasts) > 1)
        to.rows.firsts[:count] = firsts
        to.rows.contexts[:count] = np.where(single, contexts, 0)
        triples = np.stack((firsts, lengths, contexts), axis=1)
        to.rows.rows[:count] = np.where(single[:, None], 0, triples)
        gap = len(to.tokens) - used
        to.rows.rows[count] = used, gap, gap
        tiles = self._attention.tiles_of(to.rows.rows[: count + 1].tolist())
        to.rows.tiles[: len(tiles)] = tiles

    def _note(self, rows: Sequence[Row], size: int) -> bool:
        """Bring the host's copy up to date in its first `size` places; whether it changed."""
        changed = False
        for index, row in enumerate(rows):
            now = (row.seq_id, len(row.blocks))
            before = self._held[index]
            if now == before:
                continue
            changed = True
            self._held[index] = now
            self._mirror[index, : now[1]] = row.blocks
            if now[0] != before[0]:
                self._settings[index] = row.params.temperature
                self._row_seeds[index] = _signed(row.seed)
        for index in range(len(rows), size):
            if self._held[index] != _NOBODY:
                changed = True
                self._held[index] = _NOBODY
                self._mirror[index] = self._spare
                self._settings[index] = 0
        return changed


_NOBODY = (-1, 0)
"""Of a place whose table is that of the spare block: no sequence, no blocks of its own."""


class _Stage:
    """Pinned memory of one turn, and numpy's view of it, which is quicker to write from Python."""

    def __init__(self, size: int, rows: int, columns: int, pinned: bool) -> None:
        self.numbers = torch.zeros(size, dtype=torch.int64, pin_memory=pinned)
        self.tables = torch.zeros(rows + 1, columns, dtype=torch.int32, pin_memory=pinned)
        self.temperatures = torch.zeros(rows, dtype=torch.float32, pin_memory=pinned)
        self.seeds = torch.zeros(rows, dtype=torch.int64, pin_memory=pinned)
        self.numbers_view = self.numbers.numpy()
        self.tables_view = self.tables.numpy()
        self.temperatures_view = self.temperatures.numpy()
        self.seeds_view = self.seeds.numpy()


def _signed(seed: int) -> int:
    """The low 64 bits, as an int64 holds them."""
    bits = seed & (2**64 - 1)
    return bits - (bits >> 63 << 64)
