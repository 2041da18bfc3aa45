"""Slow twins of the attention kernels, in torch: what they compute, without how."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.kernels.kv import KVLayer


def paged_attention(
    q: Tensor,
    kv: KVLayer,
    rows: Sequence[tuple[int, int, int]],
    tables: Tensor,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> Tensor:
    """Causal attention of a ragged batch, row after row, in float64: [tokens, heads, dim].

    q: [tokens, heads, dim]; rows: (first token in q, new tokens, context) each; tables: int
    [num_rows, max_pages]. Query i of n sees positions
    0 .. context - n + i, with window > 0 the last `window` of them; a row of context 0 gets zeros,
    and so do tokens of no row.
    """
    group = q.shape[1] // kv.num_kv_heads
    out = torch.zeros(q.shape, dtype=torch.float64, device=q.device)
    for (first, num_new, context), table in zip(rows, tables, strict=True):
        if not context:
            continue
        pages = table[: -(-context // kv.block_size)].long()
        k, v = (
            pool[pages].flatten(0, 1)[:context].double().repeat_interleave(group, 1)
            for pool in (kv.keys, kv.values)
        )  # [context, heads, dim]
        tokens = slice(first, first + num_new)
        scores = torch.einsum("qhd,khd->hqk", q[tokens].double(), k) * scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        limit = torch.arange(context - num_new, context, device=q.device)[:, None]
        position = torch.arange(context, device=q.device)[None, :]
        seen = position <= limit
        if window:
            seen &= position > limit - window
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        out[tokens] = torch.einsum("hqk,khd->qhd", weights, v)
    return out
