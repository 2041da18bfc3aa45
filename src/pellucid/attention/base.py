"""What every attention backend is given and must return.

A step's tokens of all rows stand one behind the other. Row r's new tokens are `queries[r]` of them;
they see the first `context` positions of their sequence, which end with the tokens themselves:
query i of a row with n new tokens sees positions 0 .. context - n + i, less those that fell out of
a sliding window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """One row of the ragged batch."""

    queries: slice
    """Which of the step's tokens are this row's."""
    context: int
    """Tokens to attend to, the row's own included."""
    blocks: slice | torch.Tensor
    """What to index [num_blocks, ...] with to get the row's blocks in order."""

    @property
    def num_new(self) -> int:
        return int(self.queries.stop - self.queries.start)


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Constants of one layer's attention."""

    scale: float
    window: int = 0
    """Tokens a query sees, itself included; 0: all."""
    softcap: float = 0.0


class AttentionBackend(Protocol):
    def attend(
        self,
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        rows: list[AttentionRow],
        shape: AttentionShape,
    ) -> torch.Tensor:
        """q [tokens, heads, dim], keys/values [num_blocks, block_size, kv_heads, dim] (the new
        tokens' are in place already) → [tokens, heads, dim]."""


def visible(
    num_new: int, context: int, first: int, window: int, device: torch.device
) -> torch.Tensor:
    """Boolean mask [num_new, context - first]: may query i see position first + j?"""
    query = torch.arange(context - num_new, context, device=device)[:, None]
    key = torch.arange(first, context, device=device)[None, :]
    mask = key <= query
    return mask & (key > query - window) if window else mask


def take(cache: torch.Tensor, row: AttentionRow, first: int) -> torch.Tensor:
    """Positions first .. context-1 of a row: [kv_heads, length, dim]; a view where possible."""
    return cache[row.blocks].flatten(0, 1)[first : row.context].transpose(0, 1)
