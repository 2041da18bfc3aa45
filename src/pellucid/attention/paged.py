"""Reading pages with tensor operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pellucid.attention.base import AttentionRow


@dataclass(frozen=True, slots=True)
class PagedRow:
    """A row and how to index the pool to get its blocks in order."""

    queries: slice
    num_new: int
    context: int
    index: slice | torch.Tensor


def page(rows: list[AttentionRow], device: torch.device) -> list[PagedRow]:
    return [
        PagedRow(row.queries, row.num_new, row.context, block_index(row.blocks, device))
        for row in rows
    ]


def block_index(blocks: list[int], device: torch.device) -> slice | torch.Tensor:
    """How to index the pool with a block table: a slice, which copies nothing, where it can be."""
    first = blocks[0]
    if blocks == list(range(first, first + len(blocks))):
        return slice(first, first + len(blocks))
    return torch.tensor(blocks, dtype=torch.int64, device=device)


def take(cache: torch.Tensor, row: PagedRow, first: int) -> torch.Tensor:
    """Positions first .. context-1 of a row: [kv_heads, length, dim]; a view where possible."""
    return cache[row.index].flatten(0, 1)[first : row.context].transpose(0, 1)


def visible(
    num_new: int, context: int, first: int, window: int, device: torch.device
) -> torch.Tensor:
    """Boolean mask [num_new, context - first]: may query i see position first + j?"""
    query = torch.arange(context - num_new, context, device=device)[:, None]
    key = torch.arange(first, context, device=device)[None, :]
    mask = key <= query
    return mask & (key > query - window) if window else mask
