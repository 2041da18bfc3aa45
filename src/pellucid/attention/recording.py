"""Attention that tells somebody what it was given and what it gave.

Problem: flash attention keeps no weights, so whoever wants to see which token looks at which has to
work them out again, from the very q, k and v of the model. Idea: they all pass through `attend`. A
backend that wraps another one hands each layer's to a listener, with the wrapped one's own output,
which can then be held against them. The decoder knows nothing of it, and what is wrapped is the
kernel that serves. Trade-off: a pass of its own over the text; nothing is recorded while answers
are being made, and so recording costs them nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pellucid.attention.base import AttentionBackend, AttentionRow, AttentionShape
from pellucid.attention.paged import PagedRow, page, take
from pellucid.kernels.kv import KVLayer


@dataclass(frozen=True, slots=True)
class AttendedLayer:
    """One row's attention in one layer."""

    layer: int
    shape: AttentionShape
    q: torch.Tensor
    """[new, heads, dim], rotated, as the backend was given it"""
    k: torch.Tensor
    """[kv_heads, context, dim], as the KV pool stores it"""
    v: torch.Tensor
    """[kv_heads, context, dim]"""
    kv: KVLayer
    """Where these two lie"""
    out: torch.Tensor
    """[new, heads, dim], from the wrapped backend"""


@dataclass(slots=True)
class HeardRows:
    """A step's rows for the wrapped backend, and for the listener."""

    own: Any
    paged: list[PagedRow]
    layer: int = 0
    """The layer that attends next."""


class RecordingAttention:
    """Passes everything on to `inner`, and each row of each layer to `hear` as well.

    What is heard may be overwritten by the next layer: look at it at once, or copy it.
    """

    def __init__(self, inner: AttentionBackend, hear: Callable[[AttendedLayer], None]) -> None:
        self._inner = inner
        self._hear = hear

    def prepare(self, rows: list[AttentionRow], device: torch.device) -> HeardRows:
        return HeardRows(self._inner.prepare(rows, device), page(rows, device))

    def attend(
        self,
        q: torch.Tensor,
        kv: KVLayer,
        rows: HeardRows,
        shape: AttentionShape,
    ) -> torch.Tensor:
        out = self._inner.attend(q, kv, rows.own, shape)
        for row in rows.paged:
            k, v = take(kv.keys, row, 0), take(kv.values, row, 0)
            mine = row.queries
            self._hear(AttendedLayer(rows.layer, shape, q[mine], k, v, kv, out[mine]))
        rows.layer += 1
        return out
