"""Attention in tiles that never writes the score matrix, read straight from the pages.

For a row with one new token (decoding) this is our own kernel, `kernels/cpu/step.c`: the heads that
share a key head go through its keys together, positions are cut into chunks of fixed length, and
the chunks' partial softmaxes are merged (Flash-Decoding, Dao et al. 2023). It needs no contiguous
copy of the keys, wherever their blocks lie, and one call serves all such rows of a step.

Rows with many new tokens are bound by arithmetic and not by memory; torch's tiled kernel is as fast
there, so `sdpa.py` computes them (`by_length`). The bits of what it gives a token depend on which
others are computed with it. Our kernel treats a token by what that token sees and by nothing else,
so that a prompt may also go through it token by token (`each_token`), at a price: every token reads
its keys anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from pellucid.attention.base import AttentionRow, AttentionShape
from pellucid.attention.paged import PagedRow, page
from pellucid.attention.sdpa import attend_rows
from pellucid.kernels.cpu.step import RowTables, StepKernels
from pellucid.kernels.kv import KVLayer

AT_ONCE = 64
"""Tokens of prompts in one call of our kernel: bounds the memory of the chunks' partial results."""


class FlashRows(NamedTuple):
    """A step's rows, by the kernel that computes them."""

    long: list[PagedRow]
    """For torch."""
    single: list[RowTables]
    """Tokens for our kernel, a call each."""


Split = Callable[[list[AttentionRow], torch.device], FlashRows]


def by_length(rows: list[AttentionRow], device: torch.device) -> FlashRows:
    """Rows with several new tokens for torch, with one for our kernel."""
    single = [row for row in rows if row.num_new == 1]
    long = page([row for row in rows if row.num_new > 1], device)
    return FlashRows(long, [_tokens_of(single)] if single else [])


def each_token(rows: list[AttentionRow], device: torch.device) -> FlashRows:
    """Every token of every row for our kernel, as if it came alone."""
    alone = [
        AttentionRow(
            slice(token, token + 1), row.context - row.queries.stop + token + 1, row.blocks
        )
        for row in rows
        for token in range(row.queries.start, row.queries.stop)
    ]
    return FlashRows(
        [], [_tokens_of(alone[n : n + AT_ONCE]) for n in range(0, len(alone), AT_ONCE)]
    )


def _tokens_of(rows: list[AttentionRow]) -> RowTables:
    """Rows of one token each, as our kernel reads them."""
    return RowTables(
        [row.queries.start for row in rows],
        [row.context for row in rows],
        [row.blocks for row in rows],
    )


class FlashAttention:
    """Tokens by our kernel, and longer rows by torch's, if `split` leaves it any."""

    def __init__(self, kernels: StepKernels, split: Split = by_length) -> None:
        self._kernels = kernels
        self._split = split

    def prepare(self, rows: list[AttentionRow], device: torch.device) -> FlashRows:
        return self._split(rows, device)

    def attend(
        self,
        q: torch.Tensor,
        kv: KVLayer,
        rows: FlashRows,
        shape: AttentionShape,
    ) -> torch.Tensor:
        out = torch.empty_like(q)
        for tokens in rows.single:
            self._kernels.attend(
                q,
                kv,
                out,
                tokens,
                scale=shape.scale,
                window=shape.window,
                softcap=shape.softcap,
            )
        attend_rows(q, kv, rows.long, shape, out)
        return out
