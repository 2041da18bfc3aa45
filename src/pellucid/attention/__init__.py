"""Attention backends, chosen by name in one place."""

from __future__ import annotations

import torch

from pellucid.attention.base import AttentionBackend, AttentionRow, AttentionShape
from pellucid.attention.flash import FlashAttention
from pellucid.attention.naive import NaiveAttention
from pellucid.attention.sdpa import SdpaAttention
from pellucid.kernels import need_step_kernels, step_kernels

__all__ = ["AttentionBackend", "AttentionRow", "AttentionShape", "make_attention"]


def make_attention(name: str, device: torch.device, dtype: torch.dtype) -> AttentionBackend:
    """The backend called `name`; auto is flash where its kernels run, else sdpa.

    An explicit flash that cannot be had is an `InputError`.
    """
    if name == "naive":
        return NaiveAttention()
    if name == "flash":
        return FlashAttention(need_step_kernels("attention flash", device, dtype))
    kernels = step_kernels(device, dtype) if name == "auto" else None
    return SdpaAttention() if kernels is None else FlashAttention(kernels)
