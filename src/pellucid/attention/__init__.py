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
    TiledAttention,
)
from pellucid.attention.flash import FlashAttention, by_length, each_token
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
    "TiledAttention",
    "make_attention",
]


class Heads(NamedTuple):
    """What a backend must know of a model and its KV pool."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int


def make_attention(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    heads: Heads,
    batch_invariant: bool = False,
) -> AttentionBackend:
    """The backend called `name`: flash, sdpa or naive. batch_invariant: a token's result does not
    depend on which others are computed with it, which flash on a CPU can do."""
    if name == "naive":
        return NaiveAttention()
    if name == "sdpa":
        return SdpaAttention()
    if device.type == "cpu":
        return FlashAttention(step_kernels(), each_token if batch_invariant else by_length)
    from pellucid.attention.flash_gpu import FlashGpuAttention  # Triton loads only where it runs

    group = heads.num_heads // heads.num_kv_heads
    return FlashGpuAttention(group, heads.num_kv_heads, heads.head_dim, heads.block_size, dtype)
