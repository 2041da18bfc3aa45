"""From a plan to the tensors of a step.

A step may be *ragged*: rows of any lengths, tensors made for the occasion. Or it is a *decode*
step, one new token a row, which is most steps there are: those use `DecodeInputs`, buffers that
stay where they are for the engine's whole life, so that a captured CUDA graph can find them again.
Rows are padded to one of a few sizes, and a padding row is a sequence of one token that lives in a
spare block which no sequence ever gets.

A token may be `UNKNOWN` to the host, because the step that samples it has not ended. It crosses as
-1 - i, where i is its place among the tokens that the previous step sampled, and is looked up on
the device.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pellucid.attention import AttentionBackend, AttentionRow
from pellucid.model.decoder import Batch
from pellucid.request import UNKNOWN, Row, StepPlan

Places = Mapping[int, int]
"""Sequence id → where its token stands among those that the previous step sampled."""


def make_batch(
    plan: StepPlan,
    block_size: int,
    attention: AttentionBackend,
    sampled: torch.Tensor,
    places: Places,
) -> Batch:
    """Flatten the plan's rows, and look up where each token's keys and values go.

    sampled int64 [...]: tokens of the previous step; the batch is made on its device.
    """
    tokens: list[int] = []
    rows: list[AttentionRow] = []
    tables: list[int] = []
    first_block: list[int] = []
    device = sampled.device
    for row in plan.rows:
        queries = slice(len(tokens), len(tokens) + len(row.tokens))
        blocks = row.blocks[: -(-row.end // block_size)]
        rows.append(AttentionRow(queries, row.end, blocks))
        first_block.append(len(tables))
        tables += blocks
        tokens += row.tokens
        tokens[-1] = entry(row, places)
    lengths = np.array([row.num_new for row in rows])
    begins = np.array([row.context - row.queries.stop for row in rows])
    positions = np.arange(len(tokens)) + begins.repeat(lengths)
    block, within = np.divmod(positions, block_size)
    blocks_of = np.array(tables)[np.array(first_block).repeat(lengths) + block]
    ids = np.array(tokens, dtype=np.int64)
    numbers = np.stack((ids, positions, blocks_of * block_size + within))
    given, places_of, slots = torch.from_numpy(numbers).to(device).unbind()
    if ids.min() < 0:
        given = resolve(given, sampled)
    batch = Batch(
        tokens=given, positions=places_of, slots=slots, rows=attention.prepare(rows, device)
    )
    if not any(row.scores_prompt for row in plan.rows):
        keep_lasts(batch, plan.rows, rows, attention)
    return batch


def keep_lasts(
    batch: Batch, rows: Sequence[Row], places: Sequence[AttentionRow], attention: AttentionBackend
) -> None:
    """Have the batch keep nothing but the last token of each row that samples."""
    pairs = [place for row, place in zip(rows, places, strict=True) if row.samples]
    last = [place.queries.stop - 1 for place in pairs]
    if len(last) == len(batch.tokens):
        return
    alone = [AttentionRow(slice(i, i + 1), p.context, p.blocks) for i, p in enumerate(pairs)]
    batch.keep = torch.tensor(last, dtype=torch.int64, device=batch.tokens.device)
    batch.kept_rows = attention.prepare(alone, batch.tokens.device) if alone else None


def entry(row: Row, places: Places) -> int:
    """The row's last token as it crosses to the device."""
    token = row.tokens[-1]
    return -1 - places[row.seq_id] if token == UNKNOWN else token


def resolve(tokens: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Tokens with -1 - i replaced by sampled[i]. int64 both."""
    return torch.where(tokens < 0, sampled[(-1 - tokens).clamp_min(0)], tokens)


SIZES = (1, 2, 4, 8, 12, *range(16, 64, 8), *range(64, 128, 16), *range(128, 4097, 32))
"""Padded numbers of rows. Closer than powers of two: a wasted row still reads and writes."""


def padded_size(num_rows: int) -> int:
    """The least of `SIZES` that holds `num_rows`."""
    size: int = SIZES[bisect_left(SIZES, num_rows)]
    return size


class DecodeInputs:
    """Buffers for steps of up to `max_rows` rows with one new token each.

    The host writes to pinned memory and the copy to the device is queued behind the step that is
    running; two staging buffers take turns, since a buffer may be read until the step that it
    belongs to has begun, and the step before that one has then ended. What changes only when a
    sequence comes, goes or gets a block (tables, temperatures, seeds) crosses only then.
    """

    def __init__(self, max_rows: int, max_blocks: int, spare_block: int, device: torch.device):
        self.capacity = padded_size(max_rows)
        rows = self.capacity
        self.device = device
        self.tables = torch.full((rows, max_blocks), spare_block, dtype=torch.int32, device=device)
        """int32 [rows, max_blocks]"""
        self.temperatures = torch.zeros(rows, dtype=torch.float32, device=device)
        self.seeds = torch.zeros(rows, dtype=torch.int64, device=device)
        self._numbers = torch.zeros(2 * rows, dtype=torch.int64, device=device)
        self._spare = spare_block
        self._stages = [_Stage(rows, max_blocks, device.type == "cuda") for _ in range(2)]
        self._mirror = np.full((rows, max_blocks), spare_block, dtype=np.int32)
        self._settings = np.zeros(rows, dtype=np.float32)
        self._row_seeds = np.zeros(rows, dtype=np.int64)
        self._held: list[tuple[int, int]] = [(-1, 0)] * rows

    def tokens(self, size: int) -> torch.Tensor:
        """int64 [size]: token ids, or -1 - i for a token of the previous step."""
        return self._numbers[:size]

    def positions(self, size: int) -> torch.Tensor:
        """int64 [size]"""
        return self._numbers[size : 2 * size]

    def fill(self, rows: Sequence[Row], places: Places, size: int = 0) -> int:
        """Bring the rows over; returns the padded size (at least `size`)."""
        size = size or padded_size(len(rows))
        stage = self._stages[0]
        self._stages.reverse()
        numbers = stage.numbers_view
        numbers[: 2 * size] = 0
        numbers[: len(rows)] = [entry(row, places) for row in rows]
        numbers[size : size + len(rows)] = [row.start for row in rows]
        self._numbers[: 2 * size].copy_(stage.numbers[: 2 * size], non_blocking=True)
        if self._note(rows, size):
            stage.tables_view[:size] = self._mirror[:size]
            stage.temperatures_view[:size] = self._settings[:size]
            stage.seeds_view[:size] = self._row_seeds[:size]
            self.tables[:size].copy_(stage.tables[:size], non_blocking=True)
            self.temperatures[:size].copy_(stage.temperatures[:size], non_blocking=True)
            self.seeds[:size].copy_(stage.seeds[:size], non_blocking=True)
        return size

    def _note(self, rows: Sequence[Row], size: int) -> bool:
        """Bring the host's copy up to date; whether anything in it changed."""
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
            if self._held[index][0] != -1:
                changed = True
                self._held[index] = (-1, 0)
                self._mirror[index] = self._spare
                self._settings[index] = 0
        return changed


class _Stage:
    """Pinned memory of one turn, and numpy's view of it, which is quicker to write from Python."""

    def __init__(self, rows: int, max_blocks: int, pinned: bool) -> None:
        self.numbers = torch.zeros(2 * rows, dtype=torch.int64, pin_memory=pinned)
        self.tables = torch.zeros(rows, max_blocks, dtype=torch.int32, pin_memory=pinned)
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
