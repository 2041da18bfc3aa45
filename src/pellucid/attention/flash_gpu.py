"""Flash attention on an NVIDIA GPU: our kernels, over pages, for a whole ragged batch at a time.

Rows with many new tokens are bound by arithmetic and go to `kernels/triton/flash_hopper.py`, or,
where that does not run (other chips, windows, soft-caps, float32), to `flash.py`; rows with one new
token are bound by memory and go to `decode.py`. Each is one launch a layer, however many rows there
are. cuDNN's kernel could take prompts that are computed whole. Alone it is a little faster than
ours on an H100 (bench/results/gpu-h100.json); in a prefill of an 8B model, whose 8 KV heads serve
32, it was slower (465.3 ms against 460.8 for 16,000 tokens, in turns), so it is not used.

`prepare_decode` and `prepare_ragged` serve the padded steps of a captured graph: what they return
refers to tensors on the device only, so that the same launches fit whatever the next replay finds
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from pellucid.attention.base import AttentionRow, AttentionShape, PaddedRows
from pellucid.kernels.kv import KVLayer
from pellucid.kernels.triton.decode import (
    Scratch,
    choose_splits,
    decode_attention,
    make_scratch,
)
from pellucid.kernels.triton.flash import (
    choose_tiling,
    flash_attention,
    has_copy_engine,
    make_tiles,
    most_tiles,
)
from pellucid.kernels.triton.flash_hopper import BLOCK_M, fits, flash_attention_hopper
from pellucid.kernels.triton.flash_hopper import choose_tiling as choose_hopper_tiling


@dataclass(frozen=True, slots=True)
class LongRows:
    """Rows with many new tokens, on the device."""

    tiles: torch.Tensor
    rows: torch.Tensor
    tables: torch.Tensor


@dataclass(frozen=True, slots=True)
class SingleRows:
    """Rows with one new token, on the device."""

    firsts: torch.Tensor
    contexts: torch.Tensor
    tables: torch.Tensor
    num_splits: int


@dataclass(frozen=True, slots=True)
class GpuRows:
    """A step's rows, by the kernel that computes them; None where there are none of a kind."""

    long: LongRows | None
    single: SingleRows | None


class FlashGpuAttention:
    """The `PaddedAttention` of our GPU kernels."""

    def __init__(
        self, group: int, kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype
    ) -> None:
        self._group = group
        self._kv_heads = kv_heads
        self._head_dim = head_dim
        self._block_size = block_size
        # The engine's chip decides how keys are fetched, not how queries are cut.
        self._block_m = choose_tiling(head_dim, dtype, block_size, has_copy_engine=False).block_m
        self._scratches: dict[tuple[int, int], Scratch] = {}

    def prepare(self, rows: list[AttentionRow], device: torch.device) -> GpuRows:
        long = [row for row in rows if row.num_new > 1]
        single = [row for row in rows if row.num_new == 1]
        return GpuRows(self._long(long, device), self._single(single, device))

    def prepare_decode(self, contexts: torch.Tensor, tables: torch.Tensor) -> GpuRows:
        """Rows that are one token each, in order. contexts int32 [R], tables int32 [R, blocks]."""
        most = tables.shape[1] * self._block_size
        splits = self._splits(len(contexts), most, contexts.device)
        firsts = torch.arange(len(contexts), dtype=torch.int32, device=contexts.device)
        return GpuRows(None, SingleRows(firsts, contexts, tables, splits))

    def prepare_ragged(self, rows: PaddedRows) -> GpuRows:
        long = LongRows(rows.tiles, rows.rows, rows.tables)
        num_rows = len(rows.contexts)
        if num_rows == 1:
            return GpuRows(long, None)
        tables = rows.tables[:num_rows]
        most = tables.shape[1] * self._block_size
        splits = self._splits(num_rows, most, tables.device)
        return GpuRows(long, SingleRows(rows.firsts, rows.contexts, tables, splits))

    def tiles_of(self, rows: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
        return make_tiles(rows, self._group, self._block_m)

    def most_tiles(self, num_tokens: int, num_rows: int) -> int:
        return most_tiles(num_tokens, num_rows, self._group, self._block_m)

    def tile_of(self, q: torch.Tensor, kv: KVLayer, shape: AttentionShape) -> tuple[int, int]:
        if fits(q, kv, window=shape.window, softcap=shape.softcap):
            return BLOCK_M, choose_hopper_tiling(kv.block_size).block_n
        tiling = choose_tiling(kv.head_dim, q.dtype, kv.block_size, has_copy_engine(q.device))
        return tiling.block_m, tiling.block_n

    def attend(
        self,
        q: torch.Tensor,
        kv: KVLayer,
        rows: GpuRows,
        shape: AttentionShape,
    ) -> torch.Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        scale, window, softcap = shape.scale, shape.window, shape.softcap
        if (long := rows.long) is not None:
            where = (long.tiles, long.rows, long.tables)
            if fits(q, kv, window=window, softcap=softcap):
                flash_attention_hopper(q, kv, out, *where, scale=scale)
            else:
                flash_attention(
                    q,
                    kv,
                    out,
                    *where,
                    scale=scale,
                    window=window,
                    softcap=softcap,
                )
        if (single := rows.single) is not None:
            decode_attention(
                q,
                kv,
                out,
                single.firsts,
                single.contexts,
                single.tables,
                scale=scale,
                window=window,
                softcap=softcap,
                num_splits=single.num_splits,
                scratch=self._scratch(single, q.shape[1]),
                pdl=has_copy_engine(q.device),
            )
        return out

    def _scratch(self, rows: SingleRows, num_heads: int) -> Scratch | None:
        """Room for the splits' partial results: the same for all layers, and in every replay."""
        if rows.num_splits == 1:
            return None
        size = (len(rows.firsts), rows.num_splits)
        if size not in self._scratches:
            device = rows.firsts.device
            self._scratches[size] = make_scratch(
                size[0], num_heads, self._head_dim, size[1], device
            )
        return self._scratches[size]

    def _long(self, rows: Sequence[AttentionRow], device: torch.device) -> LongRows | None:
        if not rows:
            return None
        triples = [(row.queries.start, row.num_new, row.context) for row in rows]
        parts = (self.tiles_of(triples), triples, padded_tables([row.blocks for row in rows]))
        return LongRows(*(torch.tensor(p, dtype=torch.int32, device=device) for p in parts))

    def _single(self, rows: Sequence[AttentionRow], device: torch.device) -> SingleRows | None:
        if not rows:
            return None
        firsts = [row.queries.start for row in rows]
        contexts = [row.context for row in rows]
        tables = padded_tables([row.blocks for row in rows])
        first, context, table = (
            torch.tensor(part, dtype=torch.int32, device=device)
            for part in (firsts, contexts, tables)
        )
        return SingleRows(first, context, table, self._splits(len(rows), max(contexts), device))

    def _splits(self, num_rows: int, most: int, device: torch.device) -> int:
        return choose_splits(num_rows, self._kv_heads, most, num_multiprocessors(device))


@cache
def num_multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 4  # Triton's interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


def padded_tables(tables: Sequence[Sequence[int]]) -> list[list[int]]:
    """Block tables made equally long with zeros, which lie behind every context: never read."""
    longest = max(map(len, tables))
    return [[*table, *[0] * (longest - len(table))] for table in tables]
