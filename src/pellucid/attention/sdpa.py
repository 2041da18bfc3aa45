"""Attention through torch's `scaled_dot_product_attention`: tiles and a running softmax.

torch picks a fused kernel that never writes the score matrix (on CPU its own flash attention, on
CUDA FlashAttention-2 or cuDNN). What this file adds is bringing a ragged batch over paged keys into
the shapes that those kernels are fast on:

* one new token (decoding): the heads that share a key head become the query rows of a single
  attention without mask, [kv_heads, group, dim] against [kv_heads, context, dim], so keys are read
  once per group and not once per head (GQA packing);
* a whole prompt: torch's own causal form;
* a chunk behind a stored prefix, or a sliding window that bites: an explicit mask of the positions.

A window also bounds what is read: positions that no query sees are not even sliced in. Score
soft-capping is beyond these kernels; such a layer takes the textbook form.

Sources: Dao et al. 2022, arXiv:2205.14135; Dao 2023, arXiv:2307.08691.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from pellucid.attention.base import AttentionRow, AttentionShape
from pellucid.attention.naive import attend_row
from pellucid.attention.paged import PagedRow, page, take, visible
from pellucid.kernels.kv import KVLayer


class SdpaAttention:
    """One fused call per row."""

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
        attend_rows(q, kv, rows, shape, out)
        return out


def attend_rows(
    q: torch.Tensor,
    kv: KVLayer,
    rows: list[PagedRow],
    shape: AttentionShape,
    out: torch.Tensor,
) -> None:
    """Attention of `rows` into their part of `out`."""
    for row in rows:
        first = _first_visible(row, shape.window)
        k, v = take(kv.keys, row, first), take(kv.values, row, first)
        out[row.queries] = _attend_row(q[row.queries], k, v, row, first, shape)


def _first_visible(row: PagedRow, window: int) -> int:
    """The earliest position that any of the row's queries sees."""
    return max(0, row.context - row.num_new + 1 - window) if window else 0


def _attend_row(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    row: PagedRow,
    first: int,
    shape: AttentionShape,
) -> torch.Tensor:
    if shape.softcap:
        return attend_row(q, k, v, shape)
    if row.num_new == 1:
        packed = q.reshape(1, k.shape[0], -1, q.shape[-1])  # [1, kv_heads, group, dim]
        return sdpa(packed, k[None], v[None], scale=shape.scale).reshape(q.shape)
    causal = row.num_new == row.context and not 0 < shape.window < row.context
    mask = None if causal else visible(row.num_new, row.context, first, shape.window, q.device)
    out = sdpa(
        q.transpose(0, 1)[None],
        k[None],
        v[None],
        attn_mask=mask,
        is_causal=causal,
        scale=shape.scale,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)
