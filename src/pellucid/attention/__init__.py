"""Attention backends, made by name."""

from __future__ import annotations

from typing import NamedTuple

import torch

from pellucid.attention.base import (
    AttentionBackend,
    AttentionRow,
    AttentionShape,
    PaddedAttention,
    PaddedRows,
)
from pellucid.attention.flash import FlashAttention
from pellucid.attention.naive import NaiveAttention
from pellucid.attention.sdpa import SdpaAttention
from pellucid.kernels import step_kernels

__all__ = [
    "AttentionBackend",
    "AttentionRow",
    "AttentionShape",
    "Heads",
    "PaddedAttention",
    "PaddedRows",
    "make_attention",
]


class Heads(NamedTuple):
    """What a backend must know of a model and its KV pool."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int


def make_attention(
    name: str, device: torch.device, dtype: torch.dtype, heads: Heads
) -> AttentionBackend:
    """The backend called `name`: flash, sdpa or naive."""
    if name == "naive":
        return NaiveAttention()
    if name == "sdpa":
        return SdpaAttention()
    if device.type == "cpu":
        return FlashAttention(step_kernels())
    from pellucid.attention.flash_gpu import FlashGpuAttention  # Triton loads only where it runs

    group = heads.num_heads // heads.num_kv_heads
    return FlashGpuAttention(group, heads.num_kv_heads, heads.head_dim, heads.block_size, dtype)
