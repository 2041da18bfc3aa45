"""What every attention backend is given and must return.

A step's tokens of all rows stand one behind the other. Row r's new tokens are `queries` of them;
they see the first `context` positions of their sequence, which end with the tokens themselves:
query i of a row with n new tokens sees positions 0 .. context - n + i, less those that fell out of
a sliding window.

A backend sees the rows of a step once, in `prepare`, and makes of them whatever its layers need;
`attend` is called for each layer with that.
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
    """Which of the step's tokens are this row's."""
    context: int
    """Tokens to attend to, the row's own included."""
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
    """Rows of any lengths in places that stay: tensors on the device, or numpy on the host."""

    tiles: Any
    """int32 [most_tiles, 2], begins with what `tiles_of` gave"""
    rows: Any
    """int32 [N, 3]: first token, new tokens, context of long rows; zeros for others, or for none"""
    firsts: Any
    """int32 [R]: first tokens …"""
    contexts: Any
    """int32 [R]: … and contexts of rows of one token; 0 for others, or for none. With R = 1 that
    one row counts as long, whatever its length."""
    tables: Any
    """int32 [N, blocks]"""


@runtime_checkable
class PaddedAttention(AttentionBackend, Protocol):
    """A backend that can also work from tensors alone, as a captured graph must: what they hold may
    have changed when `attend`'s launches are replayed."""

    def prepare_decode(self, contexts: torch.Tensor, tables: torch.Tensor) -> Any:
        """Rows of one new token each, in order: contexts int32 [R], tables int32 [R, blocks]."""

    def prepare_ragged(self, rows: PaddedRows) -> Any:
        """Rows of any lengths."""

    def tiles_of(self, rows: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """What `PaddedRows.tiles` begins with for rows (first token, new tokens, context)."""

    def most_tiles(self, num_tokens: int, num_rows: int) -> int:
        """The length of the longest list that `tiles_of` gives for so many tokens and rows."""
