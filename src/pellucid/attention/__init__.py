"""Attention backends, chosen by name in one place."""

from __future__ import annotations

from importlib.util import find_spec
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
from pellucid.errors import InputError
from pellucid.kernels import need_step_kernels, why_no_step_kernels

__all__ = [
    "AttentionBackend",
    "AttentionRow",
    "AttentionShape",
    "Heads",
    "PaddedAttention",
    "PaddedRows",
    "choose_attention",
    "make_attention",
]


class Heads(NamedTuple):
    """What a backend must know of a model and its KV pool."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int


def choose_attention(name: str, device: torch.device, dtype: torch.dtype, heads: Heads) -> str:
    """What `name` comes to: auto is flash where its kernels run, else sdpa.

    An explicit flash that cannot be had is an `InputError`.
    """
    if name not in ("auto", "flash"):
        return name
    reason = why_no_flash(device, dtype, heads)
    if reason and name == "flash":
        raise InputError(f"attention flash: {reason}", param="attention")
    return "sdpa" if reason else "flash"


def make_attention(
    name: str, device: torch.device, dtype: torch.dtype, heads: Heads
) -> AttentionBackend:
    """The backend called `name`, which is not auto."""
    if name == "naive":
        return NaiveAttention()
    if name == "sdpa":
        return SdpaAttention()
    if device.type == "cpu":
        return FlashAttention(need_step_kernels("attention flash", device, dtype))
    from pellucid.attention.flash_gpu import FlashGpuAttention  # Triton loads only where it runs

    group = heads.num_heads // heads.num_kv_heads
    return FlashGpuAttention(group, heads.num_kv_heads, heads.head_dim, heads.block_size, dtype)


def why_no_flash(device: torch.device, dtype: torch.dtype, heads: Heads) -> str:
    """Why our kernels do not run here; empty if they do."""
    if device.type == "cpu":
        return why_no_step_kernels(device, dtype)
    if find_spec("triton") is None:
        return "its kernels need Triton, which is not installed"
    if heads.head_dim < 16:
        return f"its kernels need heads of 16 dimensions or more, not {heads.head_dim}"
    size = heads.block_size
    if size < 16 or size & (size - 1):
        return f"its kernels need a block_size that is a power of two from 16 on, not {size}"
    return ""
