"""The block pool keeps its books under any order of operations."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pellucid.cache.blocks import BlockPool, BlockTable


class Books(RuleBasedStateMachine):
    """Random growing, sharing and releasing against a pool of nine blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=9, block_size=4)
        self.tables: list[BlockTable] = []
        self.copies: dict[BlockTable, tuple[int, list[int]]] = {}

    @rule()
    def open(self) -> None:
        self.tables.append(BlockTable())

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99), tokens=st.integers(0, 30))
    def grow(self, pick: int, tokens: int) -> None:
        table = self.tables[pick % len(self.tables)]
        before, free = list(table.blocks), self.pool.num_free
        missing = self.pool.missing(table, tokens)
        grown = self.pool.grow(table, tokens)
        assert grown == (missing <= free)
        assert table.blocks[: len(before)] == before
        assert len(table) == len(before) + (missing if grown else 0)

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99), count=st.integers(0, 9))
    def share(self, pick: int, count: int) -> None:
        self.tables.append(self.pool.share(self.tables[pick % len(self.tables)].blocks[:count]))

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99))
    def release(self, pick: int) -> None:
        table = self.tables.pop(pick % len(self.tables))
        self.pool.release(table)
        self.copies.pop(table, None)

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99), keep=st.integers(0, 9))
    def roll_back(self, pick: int, keep: int) -> None:
        self.pool.release(self.tables[pick % len(self.tables)], keep)

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99))
    def send(self, pick: int) -> None:
        """A copy kept from what rows carry is the table, whatever happened in between."""
        table = self.tables[pick % len(self.tables)]
        version, known = self.copies.get(table, (-1, []))
        new = table.unsent()
        known = known + new if version == table.version else new
        self.copies[table] = table.version, known
        assert known == table.blocks

    @invariant()
    def sound(self) -> None:
        self.pool.check_integrity(self.tables)
        for table in self.tables:
            assert len(set(table.blocks)) == len(table)


TestBooks = Books.TestCase


def test_alone_in_the_pool_a_table_is_one_stretch() -> None:
    pool = BlockPool(num_blocks=64, block_size=4)
    table = BlockTable()
    for tokens in range(1, 200):
        assert pool.grow(table, tokens)
    first = table.blocks[0]
    assert table.blocks == list(range(first, first + len(table)))


def test_interleaved_tables_never_share_a_block() -> None:
    pool = BlockPool(num_blocks=20, block_size=2)
    a, b = BlockTable(), BlockTable()
    for tokens in range(1, 20):
        assert pool.grow(a, tokens)
        assert pool.grow(b, tokens)
    assert not set(a.blocks) & set(b.blocks)
    assert not pool.grow(a, 100)
    assert len(a) == 10


def test_a_table_that_changes_without_growing_is_sent_again() -> None:
    pool = BlockPool(num_blocks=6, block_size=1)
    table, other = BlockTable(), BlockTable()
    pool.grow(table, 2)
    pool.grow(other, 1)  # the block next door is taken
    pool.grow(table, 3)
    assert (table.unsent(), table.version) == ([0, 1, 3], 0)
    pool.release(table, keep=2)
    third = BlockTable()
    pool.grow(third, 1)
    pool.grow(table, 3)
    assert table.blocks == [0, 1, 4] and len(table) == 3
    assert (table.unsent(), table.version) == ([0, 1, 4], 1)
    assert table.unsent() == []
