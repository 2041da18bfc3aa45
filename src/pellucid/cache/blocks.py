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


class BlockTable:
    """A sequence's blocks in order, and how much of them the runner knows.

    The runner keeps a copy of each table, and a step's row carries only what is new to it. Blocks
    that were appended since the last row are new. Any other change (a rollback, a block that was
    swapped for an equal one) counts `version` up, and the next row carries the whole table.

        blocks [5, 6]     row 1: new_blocks [5, 6], version 0
        blocks [5, 6, 7]  row 2: new_blocks [7],    version 0
        blocks [5, 6, 9]  row 3: new_blocks [5, 6, 9], version 1    (7 was given back)
    """

    __slots__ = ("_num_sent", "blocks", "version")

    def __init__(self, blocks: Iterable[int] = ()) -> None:
        self.blocks = list(blocks)
        self.version = 0
        self._num_sent = 0

    def __len__(self) -> int:
        return len(self.blocks)

    def append(self, block: int) -> None:
        self.blocks.append(block)

    def truncate(self, length: int) -> list[int]:
        """Keep the first `length` blocks; returns the others."""
        removed = self.blocks[length:]
        if removed:
            del self.blocks[length:]
            self.changed()
        return removed

    def changed(self) -> None:
        """To be called after every change that is no append."""
        self.version += 1
        self._num_sent = 0

    def unsent(self) -> list[int]:
        """What the runner does not know yet; from here on it counts as known."""
        new = self.blocks[self._num_sent :]
        self._num_sent = len(self.blocks)
        return new


class BlockPool:
    """Reference counts and the free set of `num_blocks` blocks of `block_size` tokens."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._refs = [0] * num_blocks
        # A stack popped from the end, lowest number on top. `_take` may hand out a block that is
        # not on top; its entry stays in the stack, and `_listed` tells `_pop` to skip it later.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._listed = [True] * num_blocks
        self.num_free = num_blocks

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    def references(self, block: int) -> int:
        """How many tables hold `block`; 0: it is free."""
        return self._refs[block]

    def blocks_for(self, num_tokens: int) -> int:
        """How many blocks `num_tokens` tokens fill, the last one perhaps partly."""
        return -(-num_tokens // self.block_size)

    def missing(self, table: BlockTable, num_tokens: int) -> int:
        """How many blocks `table` lacks to hold `num_tokens` tokens."""
        return max(0, self.blocks_for(num_tokens) - len(table))

    def grow(self, table: BlockTable, num_tokens: int) -> bool:
        """Extend `table` so that it holds `num_tokens`; False, and nothing changed, if it can't."""
        count = self.missing(table, num_tokens)
        if count > self.num_free:
            return False
        for _ in range(count):
            table.append(self._take(after=table.blocks[-1] if table.blocks else None))
        return True

    def share(self, blocks: Iterable[int]) -> BlockTable:
        """A further reference to each of `blocks`; returns them as a new table."""
        table = BlockTable(blocks)
        for block in table.blocks:
            assert self._refs[block] > 0, f"block {block} is free and cannot be shared"
            self._refs[block] += 1
        return table

    def release(self, table: BlockTable, keep: int = 0) -> None:
        """Give up one reference to each block of `table` behind the first `keep`."""
        for block in reversed(table.truncate(keep)):
            assert self._refs[block] > 0, f"block {block} released twice"
            self._refs[block] -= 1
            if not self._refs[block]:
                self.num_free += 1
                if not self._listed[block]:
                    self._listed[block] = True
                    self._free.append(block)

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

    def check_integrity(self, tables: Iterable[BlockTable]) -> None:
        """Assert that counts match `tables` exactly and that every unreferenced block is free."""
        counts = [0] * self.num_blocks
        for table in tables:
            for block in table.blocks:
                counts[block] += 1
        assert counts == self._refs, "reference counts differ from the block tables"
        assert self.num_free == counts.count(0), "free blocks are miscounted"
        assert all(self._listed[b] for b, n in enumerate(counts) if not n), "a free block is lost"
