"""Blocks of the KV cache: who holds which, with no tensor in sight.

Problem: sequences grow by one token at a time and end at different moments. Reserving the longest
possible stretch for each wastes most of the memory.

Idea: cut the cache into equal blocks, as an operating system cuts memory into pages. A sequence
holds a *block table*, the list of its blocks in order; position p lives in block `table[p // size]`
at offset `p % size`. A block has a reference count, so that sequences with the same beginning can
share it; it is free when nobody refers to it.

Trade-off: a sequence wastes at most one partly filled block, and attention must look up where a
position lives. To spare it that where possible, `grow` prefers the block right after the table's
last one: a sequence alone in the pool then lies in one stretch, which attention can read in place.

Source: Kwon et al. 2023 (PagedAttention), arXiv:2309.06180.
"""

from __future__ import annotations

from collections.abc import Iterable


class BlockPool:
    """Reference counts and the free set of `num_blocks` blocks of `block_size` tokens."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._refs = [0] * num_blocks
        # A stack popped from the end, lowest number on top; entries taken out of turn by `_take`
        # stay behind and are skipped when they surface, which `_listed` lets us recognize.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._listed = [True] * num_blocks
        self.num_free = num_blocks

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    def blocks_for(self, num_tokens: int) -> int:
        """How many blocks `num_tokens` tokens fill, the last one perhaps partly."""
        return -(-num_tokens // self.block_size)

    def missing(self, table: list[int], num_tokens: int) -> int:
        """How many blocks `table` lacks to hold `num_tokens` tokens."""
        return max(0, self.blocks_for(num_tokens) - len(table))

    def grow(self, table: list[int], num_tokens: int) -> bool:
        """Extend `table` so that it holds `num_tokens`; False, and nothing changed, if it can't."""
        count = self.missing(table, num_tokens)
        if count > self.num_free:
            return False
        for _ in range(count):
            table.append(self._take(after=table[-1] if table else None))
        return True

    def share(self, blocks: Iterable[int]) -> list[int]:
        """A further reference to each of `blocks`; returns them as a new table."""
        table = list(blocks)
        for block in table:
            assert self._refs[block] > 0, f"block {block} is free and cannot be shared"
            self._refs[block] += 1
        return table

    def release(self, table: list[int]) -> None:
        """Give up one reference to each block of `table`, and empty it."""
        for block in reversed(table):
            assert self._refs[block] > 0, f"block {block} released twice"
            self._refs[block] -= 1
            if not self._refs[block]:
                self.num_free += 1
                if not self._listed[block]:
                    self._listed[block] = True
                    self._free.append(block)
        table.clear()

    def _take(self, after: int | None) -> int:
        follower = None if after is None else after + 1
        if follower is not None and follower < self.num_blocks and not self._refs[follower]:
            block = follower
        else:
            block = self._pop()
        self._refs[block] = 1
        self.num_free -= 1
        return block

    def _pop(self) -> int:
        while True:
            block = self._free.pop()
            self._listed[block] = False
            if not self._refs[block]:
                return block

    def check_integrity(self, tables: Iterable[list[int]]) -> None:
        """Assert that counts match `tables` exactly and that every unreferenced block is free."""
        counts = [0] * self.num_blocks
        for table in tables:
            for block in table:
                counts[block] += 1
        assert counts == self._refs, "reference counts differ from the block tables"
        assert self.num_free == counts.count(0), "free blocks are miscounted"
        assert all(self._listed[b] for b, n in enumerate(counts) if not n), "a free block is lost"
