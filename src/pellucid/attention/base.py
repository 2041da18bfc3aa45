"""What every attention backend is given and must return.

The tokens of all rows of a step stand one behind the other; a row's new tokens are the slice
`queries` of them. They attend to the first `context` positions of their sequence, of which they are
the last: query i of a row with n new tokens sees positions 0 .. context - n + i, without those that
have left a sliding window. Example: a sequence has 100 tokens stored and brings 3 more. Then
context is 103, and its three queries see 101, 102 and 103 positions.

A step has many layers, and its rows are the same in each. So a backend is given the rows once, in
`prepare`, and turns them into the form that its kernels want; `attend` gets that form for each
layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from pellucid.kernels.kv import KVLayer


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """One row of the ragged batch."""

    queries: slice
    """Where the row's new tokens stand among the step's tokens."""
    context: int
    """Positions to attend to, the row's new tokens included."""
    blocks: list[int]
    """Block table, as long as `context` needs."""

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
    def prepare(self, rows: list[AttentionRow], device: torch.device) -> Any:
        """The rows of a step in the form that `attend` wants."""

    def attend(
        self,
        q: torch.Tensor,
        kv: KVLayer,
        rows: Any,
        shape: AttentionShape,
    ) -> torch.Tensor:
        """q [tokens, heads, dim] → [tokens, heads, dim]; the new tokens' keys and values are in
        `kv` already. `rows`: what `prepare` gave."""


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Up to N rows of any lengths, in arrays of fixed size: tensors on the device, or their image
    in numpy on the host.

    Each row counts once: as a long row if it has several new tokens, as a single row if it has one.
    In the other list its context is 0, as are the contexts beyond the last row. With R = 1 there is
    no list of single rows: the one row counts as long, whatever its length.
    """

    tiles: Any
    """int32 [most_tiles, 2]: the result of `tiles_of`; what stands behind it is not read"""
    rows: Any
    """int32 [N, 3], long rows: first token, new tokens, context"""
    firsts: Any
    """int32 [R], single rows: the token"""
    contexts: Any
    """int32 [R], single rows: the context"""
    tables: Any
    """int32 [N, blocks]: block tables of all rows"""


@runtime_checkable
class PaddedAttention(AttentionBackend, Protocol):
    """A backend whose rows can lie on the device alone.

    A captured graph needs that: its launches of `attend` are replayed for other rows, which the
    host has written to the same tensors.
    """

    def prepare_decode(self, contexts: torch.Tensor, tables: torch.Tensor) -> Any:
        """Rows of one new token each, in order: contexts int32 [R], tables int32 [R, blocks]."""

    def prepare_ragged(self, rows: PaddedRows) -> Any:
        """Rows of any lengths."""

    def tiles_of(self, rows: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """The list for `PaddedRows.tiles` of rows (first token, new tokens, context)."""

    def most_tiles(self, num_tokens: int, num_rows: int) -> int:
        """The longest list that `tiles_of` can give for so many tokens and rows, in entries."""


@runtime_checkable
class TiledAttention(AttentionBackend, Protocol):
    """A backend that can say what tiles it cuts."""

    def tile_of(self, q: torch.Tensor, kv: KVLayer, shape: AttentionShape) -> tuple[int, int]:
        """Lines and positions of a tile of a row with many new tokens; a line is one query of one
        head."""
