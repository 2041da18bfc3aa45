"""Attention as the textbook has it: the off form.

    out = softmax(scale · q kᵀ + mask) v

Every score is written to memory before the softmax reads it back, and heads that share keys get
their own copy of them: for n queries over n positions that is O(n²) memory and traffic per head,
where the tiled form (`sdpa`) needs O(n). The scores are float32 whatever the model's dtype, so this
is also the reference that the others are compared with.

Source: Vaswani et al. 2017, arXiv:1706.03762.
"""

from __future__ import annotations

import torch

from pellucid.attention.base import AttentionRow, AttentionShape
from pellucid.attention.paged import PagedRow, page, take, visible
from pellucid.kernels.kv import KVLayer


class NaiveAttention:
    """Materializes the [heads, new, context] scores of one row at a time."""

    def prepare(self, rows: list[AttentionRow], device: torch.device) -> list[PagedRow]:
        return page(rows, device)

    def attend(
        self,
        q: torch.Tensor,
        kv: KVLayer,
        rows: list[PagedRow],
        shape: AttentionShape,
    ) -> torch.Tensor:
        out = torch.empty_like(q)
        for row in rows:
            k, v = take(kv.keys, row, 0), take(kv.values, row, 0)
            out[row.queries] = attend_row(q[row.queries], k, v, shape)
        return out


def attend_row(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, shape: AttentionShape
) -> torch.Tensor:
    """q [new, heads, dim], k/v [kv_heads, context, dim] → [new, heads, dim]."""
    v = v.repeat_interleave(q.shape[1] // len(v), dim=0)
    return (weigh(q, k, shape).to(v.dtype) @ v).transpose(0, 1)


def weigh(q: torch.Tensor, k: torch.Tensor, shape: AttentionShape) -> torch.Tensor:
    """How much of each position each query takes: float32 [heads, new, context], rows sum to 1."""
    num_new, num_heads, _ = q.shape
    num_kv_heads, context, _ = k.shape
    k = k.repeat_interleave(num_heads // num_kv_heads, dim=0)
    scores = (q.transpose(0, 1) @ k.transpose(1, 2)).float() * shape.scale  # [heads, new, context]
    if shape.softcap:
        scores = shape.softcap * torch.tanh(scores / shape.softcap)
    mask = visible(num_new, context, 0, shape.window, q.device)
    scores = scores.masked_fill(~mask, float("-inf"))  # nothing holds the unmasked ones any more
    return torch.softmax(scores, dim=-1)
