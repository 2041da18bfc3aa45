"""Causal attention of one head as the formula stands: every score is written down."""

from __future__ import annotations

import torch


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """q, k, v [n, dim] → [n, dim]; query i sees positions 0 .. i."""
    scores = q @ k.T / q.shape[1] ** 0.5  # [n, n]
    hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
