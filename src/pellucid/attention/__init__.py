"""Attention backends, chosen by name in one place."""

from __future__ import annotations

from pellucid.attention.base import AttentionBackend, AttentionRow, AttentionShape
from pellucid.attention.naive import NaiveAttention
from pellucid.attention.sdpa import SdpaAttention

__all__ = ["AttentionBackend", "AttentionRow", "AttentionShape", "make_attention"]

_BACKENDS: dict[str, type[AttentionBackend]] = {"naive": NaiveAttention, "sdpa": SdpaAttention}


def make_attention(name: str) -> AttentionBackend:
    """The backend called `name`; KeyError if there is none."""
    return _BACKENDS[name]()
