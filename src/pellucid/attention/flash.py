"""Attention in tiles that never writes the score matrix, read straight from the pages.

For a row with one new token (decoding) this is our own kernel, `kernels/cpu/step.c`: the heads that
share a key head go through its keys together, positions are cut into chunks of fixed length, and
the chunks' partial softmaxes are merged (Flash-Decoding, Dao et al. 2023). It needs no contiguous
copy of the keys, wherever their blocks lie, and one call serves all such rows of a step.

Rows with many new tokens are bound by arithmetic and not by memory; torch's tiled kernel is as fast
there, so `sdpa.py` computes them.
"""

from __future__ import annotations

import torch

from pellucid.attention.base import AttentionRow, AttentionShape
from pellucid.attention.paged import PagedRow, page
from pellucid.attention.sdpa import attend_rows
from pellucid.kernels.cpu.step import RowTables, StepKernels
from pellucid.kernels.kv import KVLayer


class FlashRows:
    """A step's rows: with several new tokens, for torch, and with one, for our kernel."""

    def __init__(self, rows: list[AttentionRow], device: torch.device) -> None:
        single = [row for row in rows if row.num_new == 1]
        self.long: list[PagedRow] = page([row for row in rows if row.num_new > 1], device)
        self.single = RowTables(
            [row.queries.start for row in single],
            [row.context for row in single],
            [row.blocks for row in single],
        )


class FlashAttention:
    """Decoding by our kernel, longer rows by torch's."""

    def __init__(self, kernels: StepKernels) -> None:
        self._kernels = kernels

    def prepare(self, rows: list[AttentionRow], device: torch.device) -> FlashRows:
        return FlashRows(rows, device)

    def attend(
        self,
        q: torch.Tensor,
        kv: KVLayer,
        rows: FlashRows,
        shape: AttentionShape,
    ) -> torch.Tensor:
        out = torch.empty_like(q)
        if rows.single.num_rows:
            self._kernels.attend(
                q,
                kv,
                out,
                rows.single,
                scale=shape.scale,
                window=shape.window,
                softcap=shape.softcap,
            )
        attend_rows(q, kv, rows.long, shape, out)
        return out
