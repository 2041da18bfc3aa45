"""Inputs of padded steps, in buffers that stay where they are.

Problem: a captured CUDA graph repeats launches as they were, with the same sizes and addresses, and
no two steps have the same tokens and rows.

Idea: a step is padded to one of a few shapes (shapes.py), and every input lies in a buffer that
lives as long as the engine. Of a decode step the host sends three numbers a row (token, position,
place); of a ragged step in addition where each token goes and how attention is cut into tiles:

    tokens   │ row 0 │ row 1 ...... │ row 2 │ padding                  │
    rows     │ 0, 1, 2, rows that the step does not have, the padding   │

Padding is one more sequence, so that no kernel has to know of it. It holds the spare place and the
spare block, which no other sequence ever gets. Rows that a decode step lacks are rows of that
sequence with one token; the padding tokens of a ragged step are one row of it, behind the others.
What padding computes is never read.

What changes only when a sequence comes or gets a block (its table, its sampling settings) crosses
only then, and is looked up on the device by place (kernels/rows.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from pellucid.attention import PaddedAttention, PaddedRows
from pellucid.request import Row
from pellucid.runner.sequences import SequenceTable, flatten
from pellucid.runner.shapes import Shape, Shapes


class Ragged(NamedTuple):
    """Inputs of a ragged step of T tokens and R rows, on the host (numpy) or on the device."""

    tokens: Any
    """int64 [T]: ids, or -1 - place for what that sequence sampled last"""
    positions: Any
    """int64 [T]"""
    slots: Any
    """int64 [T]: where in the KV pool each one's keys and values go"""
    lasts: Any
    """int64 [R + 1]: each row's last token; the last row is the padding's, if R rows are there"""
    ends: Any
    """int64 [R + 1]: its position"""
    places: Any
    """int64 [R + 1]: the place of its sequence"""
    draw_places: Any
    """int64 [R + 1]: the same for rows that sample; the spare place for all others, so that nothing
    is drawn or counted for them"""
    rows: PaddedRows


class PaddedInputs:
    """Buffers for padded steps.

    The host writes to pinned memory and the copy to the device is queued behind the step that is
    running. Two staging buffers take turns: a buffer may be read until the step that it belongs to
    has begun, and the step before that one has then ended.
    """

    def __init__(
        self,
        shapes: Shapes,
        sequences: SequenceTable,
        *,
        block_size: int,
        spare_block: int,
        attention: PaddedAttention,
        device: torch.device,
    ) -> None:
        self.shapes = shapes
        self.device = device
        self._sequences = sequences
        self._block_size = block_size
        self._spare_slot = spare_block * block_size
        self._attention = attention
        self.tables = torch.from_numpy(sequences.tables).to(device, copy=True)
        """int32 [places + 1, blocks], by place"""
        self.row_tables = torch.full_like(
            self.tables[:1].expand(shapes.max_rows + 1, -1), spare_block
        ).contiguous()
        """int32 [rows + 1, blocks], by row: written by each step on the device"""
        largest = max(sum(self._sizes(shape)) for shape in shapes.largest())
        self._numbers = torch.zeros(largest, dtype=torch.int64, device=device)
        pinned = device.type == "cuda"
        self._stages = [_Stage(largest, sequences.tables.shape, pinned=pinned) for _ in range(2)]

    def fill(self, rows: Sequence[Row], shape: Shape) -> None:
        """Bring the rows over. No rows: all of it is padding."""
        stage = self._stages[0]
        self._stages.reverse()
        self._send_tables(stage)
        numbers, used = stage.numbers.numpy(), sum(self._sizes(shape))
        numbers[:used] = 0
        if shape.tokens:
            self._fill_ragged(self._cut(numbers, shape), rows)
        else:
            tokens, positions, places = self._columns(numbers, shape)
            places[:] = self._sequences.spare_place
            places[: len(rows)] = held = [self._sequences[row.seq_id].place for row in rows]
            tokens[: len(rows)] = [
                -1 - place if row.ends_unknown else row.tokens[0]
                for row, place in zip(rows, held, strict=True)
            ]
            positions[: len(rows)] = [row.start for row in rows]
        self._numbers[:used].copy_(stage.numbers[:used], non_blocking=True)

    def decode(self, shape: Shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a decode step: tokens (ids, or -1 - place), positions and places, int64 [R] each."""
        tokens, positions, places = self._columns(self._numbers, shape)
        return tokens, positions, places

    def ragged(self, shape: Shape) -> Ragged:
        """The inputs of a ragged step."""
        return self._cut(self._numbers, shape)

    def _send_tables(self, stage: _Stage) -> None:
        changed = self._sequences.changed
        if not changed:
            return
        first, stop = min(changed), max(changed) + 1
        changed.clear()
        stage.tables.numpy()[first:stop] = self._sequences.tables[first:stop]
        self.tables[first:stop].copy_(stage.tables[first:stop], non_blocking=True)

    def _columns(self, numbers: Any, shape: Shape) -> Any:
        """The three inputs of a decode step in the buffer, numpy's or torch's."""
        step = shape.rows + shape.rows % 2
        return [numbers[begin : begin + shape.rows] for begin in (0, step, 2 * step)]

    def _sizes(self, shape: Shape) -> list[int]:
        """How many int64 each input of a step takes, in whole 16 bytes: for addresses that are no
        multiples of those, Triton would compile its kernels once more."""
        num_rows, num_tokens, _ = shape
        if not num_tokens:
            return [num_rows + num_rows % 2] * 3
        triples, ints = 3 * (num_rows + 1), num_rows
        sizes = (
            *(num_tokens, num_tokens, num_tokens),
            *[num_rows + 1] * 4,
            *(self._most_tiles(shape), -(-triples // 2), -(-ints // 2), -(-ints // 2)),
        )
        return [size + size % 2 for size in sizes]

    def _most_tiles(self, shape: Shape) -> int:
        return self._attention.most_tiles(shape.tokens, shape.rows + 1)

    def _cut(self, numbers: Any, shape: Shape) -> Ragged:
        """The buffer, numpy's or torch's, as the inputs that it holds in a ragged step."""
        ends_at = (0, *accumulate(self._sizes(shape)))
        tokens, positions, slots, lasts, ends, places, draw_places, *others = (
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
            tables=self.row_tables,
        )
        lasts, ends, places, draw_places = (
            part[: num_rows + 1] for part in (lasts, ends, places, draw_places)
        )
        return Ragged(tokens, positions, slots, lasts, ends, places, draw_places, padded)

    def _fill_ragged(self, to: Ragged, rows: Sequence[Row]) -> None:
        """Write what is not 0."""
        to.places[:] = to.draw_places[:] = self._sequences.spare_place
        to.slots[:] = self._spare_slot
        used, count = 0, len(rows)
        if rows:
            flat = flatten(rows, self._sequences, self._block_size)
            used = len(flat.tokens)
            to.tokens[:used], to.positions[:used] = flat.tokens, flat.positions
            to.slots[:used] = flat.slots
            to.places[:count] = flat.places
            samples = np.array([row.samples for row in rows])
            to.draw_places[:count][samples] = flat.places[samples]
            to.lasts[:count] = flat.firsts + flat.lengths - 1
            to.ends[:count] = flat.contexts - 1
            single = (flat.lengths == 1) & (len(to.lasts) > 2)
            to.rows.firsts[:count] = flat.firsts
            to.rows.contexts[:count] = np.where(single, flat.contexts, 0)
            triples = np.stack((flat.firsts, flat.lengths, flat.contexts), axis=1)
            to.rows.rows[:count] = np.where(single[:, None], 0, triples)
        gap = len(to.tokens) - used
        to.rows.rows[count] = used, gap, gap
        to.ends[count] = max(0, gap - 1)
        tiles = self._attention.tiles_of(to.rows.rows[: count + 1].tolist())
        to.rows.tiles[: len(tiles)] = tiles


class _Stage:
    """Pinned memory of one turn."""

    def __init__(self, size: int, tables: tuple[int, ...], *, pinned: bool) -> None:
        self.numbers = torch.zeros(size, dtype=torch.int64, pin_memory=pinned)
        self.tables = torch.zeros(tables, dtype=torch.int32, pin_memory=pinned)
