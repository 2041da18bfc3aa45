"""Where the keys and values of a sequence's first tokens may be found already.

A waiting sequence asks its `Prefix` when it is admitted: which blocks hold its first tokens, and
how many tokens need not be computed. `NoPrefix` is the off form. `SiblingPrefix` serves a request
with n > 1: the first answer computes the prompt, the others share its full blocks.
`PretendedPrefix` is for measuring.

Only whole blocks are shared, and never the one with the prompt's last token: that token is always
computed, because its logits choose the next one. So no block is written by two sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pellucid.cache.blocks import BlockTable


class Found(NamedTuple):
    """What a sequence begins with."""

    blocks: list[int]
    """Blocks to share, in order."""
    num_computed: int
    """Leading tokens that count as stored."""


class Prefix(Protocol):
    def is_pending(self) -> bool:
        """Whether waiting pays: somebody is computing the very tokens."""

    def find(self, num_tokens: int, block_size: int) -> Found:
        """What is stored of a sequence of `num_tokens` tokens."""


class NoPrefix:
    """Off: everything has to be computed."""

    def is_pending(self) -> bool:
        return False

    def find(self, num_tokens: int, block_size: int) -> Found:
        return Found([], 0)


class Leader(Protocol):
    """The sequence that computes a prompt for its siblings."""

    @property
    def table(self) -> BlockTable: ...
    @property
    def computed(self) -> int: ...
    @property
    def num_prompt(self) -> int: ...
    @property
    def is_running(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class SiblingPrefix:
    """The prompt's full blocks, computed by the first answer to the same request.

    Example: a prompt of 21 tokens in blocks of 4. Five blocks are full; the siblings share them and
    compute token 20 (counted from 0) themselves.
    """

    leader: Leader

    def is_pending(self) -> bool:
        return self.leader.is_running and not self._is_computed()

    def find(self, num_tokens: int, block_size: int) -> Found:
        if not self._is_computed():
            return Found([], 0)
        blocks = self.leader.table.blocks[: (self.leader.num_prompt - 1) // block_size]
        return Found(blocks, len(blocks) * block_size)

    def _is_computed(self) -> bool:
        return self.leader.computed >= self.leader.num_prompt


@dataclass(frozen=True, slots=True)
class PretendedPrefix:
    """`num_tokens` tokens count as stored though nobody computed them.

    For measuring: what a step costs at some length does not depend on what the keys and values are.
    """

    num_tokens: int

    def is_pending(self) -> bool:
        return False

    def find(self, num_tokens: int, block_size: int) -> Found:
        return Found([], min(self.num_tokens, num_tokens - 1))
