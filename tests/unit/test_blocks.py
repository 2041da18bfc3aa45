"""The block pool keeps its books under any order of operations."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pellucid.cache.blocks import BlockPool


class Books(RuleBasedStateMachine):
    """Random growing, sharing and releasing against a pool of nine blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=9, block_size=4)
        self.tables: list[list[int]] = []

    @rule()
    def open(self) -> None:
        self.tables.append([])

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99), tokens=st.integers(0, 30))
    def grow(self, pick: int, tokens: int) -> None:
        table = self.tables[pick % len(self.tables)]
        before, free = list(table), self.pool.num_free
        missing = self.pool.missing(table, tokens)
        grown = self.pool.grow(table, tokens)
        assert grown == (missing <= free)
        assert table[: len(before)] == before
        assert len(table) == len(before) + (missing if grown else 0)

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99), count=st.integers(0, 9))
    def share(self, pick: int, count: int) -> None:
        self.tables.append(self.pool.share(self.tables[pick % len(self.tables)][:count]))

    @precondition(lambda self: self.tables)
    @rule(pick=st.integers(0, 99))
    def release(self, pick: int) -> None:
        self.pool.release(self.tables.pop(pick % len(self.tables)))

    @invariant()
    def sound(self) -> None:
        self.pool.check_integrity(self.tables)
        for table in self.tables:
            assert len(set(table)) == len(table)


TestBooks = Books.TestCase


def test_alone_in_the_pool_a_table_is_one_stretch() -> None:
    pool = BlockPool(num_blocks=64, block_size=4)
    table: list[int] = []
    for tokens in range(1, 200):
        assert pool.grow(table, tokens)
    assert table == list(range(table[0], table[0] + len(table)))


def test_interleaved_tables_never_share_a_block() -> None:
    pool = BlockPool(num_blocks=20, block_size=2)
    a: list[int] = []
    b: list[int] = []
    for tokens in range(1, 20):
        assert pool.grow(a, tokens)
        assert pool.grow(b, tokens)
    assert not set(a) & set(b)
    assert not pool.grow(a, 100)
    assert len(a) == 10
