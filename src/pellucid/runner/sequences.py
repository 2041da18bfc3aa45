"""What the runner keeps of each sequence between steps.

A plan says what has changed: who came, who left, which blocks are new (`request.StepPlan`). From
that the runner keeps a block table and a *place* for each sequence. The place is a number below
`max_seqs` that the sequence holds as long as it is known; the tables on the device are indexed by
it (sampling/state.py, runner/padded.py), and so is the token that the sequence sampled last, which
the host may not have seen yet.

    place      0        1        2        3 (the spare one)
    sequence   17       -        21       padding
    table      [4, 5]            [9, 2]   [spare block, spare block, …]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pellucid.request import Row, SequenceStart, StepPlan


@dataclass(slots=True)
class KnownSequence:
    place: int
    start: SequenceStart
    blocks: list[int] = field(default_factory=list)
    version: int = -1
    """Of the table in `blocks`; a first row never has it, so that it brings the whole table."""


class SequenceTable:
    """Up to `num_places` sequences with tables of up to `num_columns` blocks."""

    def __init__(self, num_places: int, num_columns: int, spare_block: int) -> None:
        self.spare_place = num_places
        self.tables = np.full((num_places + 1, num_columns), spare_block, dtype=np.int32)
        """Block tables by place; behind its end a table may hold anything."""
        self.changed: set[int] = set()
        """Places whose table has changed since somebody emptied this."""
        self._spare_block = spare_block
        self._known: dict[int, KnownSequence] = {}
        self._free = list(range(num_places - 1, -1, -1))

    def __getitem__(self, seq_id: int) -> KnownSequence:
        return self._known[seq_id]

    def update(self, plan: StepPlan) -> list[int]:
        """Take in what a plan says of its sequences; the places of those that start."""
        for seq_id in plan.left:
            self._free.append(self._known.pop(seq_id).place)
        places = [self._free.pop() for _ in plan.starts]
        for place, start in zip(places, plan.starts, strict=True):
            self._known[start.seq_id] = KnownSequence(place, start)
        for row in plan.rows:
            self._extend(self._known[row.seq_id], row)
        return places

    def forget(self) -> None:
        """No sequence is known any more."""
        self._free += [known.place for known in self._known.values()]
        self._known.clear()

    def _extend(self, known: KnownSequence, row: Row) -> None:
        if row.table_version != known.version:
            known.version = row.table_version
            known.blocks.clear()
        elif not row.new_blocks:
            return
        begin = len(known.blocks)
        known.blocks += row.new_blocks
        self.tables[known.place, begin : len(known.blocks)] = row.new_blocks
        self.changed.add(known.place)


@dataclass(frozen=True, slots=True)
class Flat:
    """The rows of a step one behind the other: T tokens, R rows. All int64, numpy."""

    tokens: np.ndarray
    """[T]: ids, or -1 - place where the host does not know what that sequence sampled last"""
    positions: np.ndarray
    """[T]"""
    slots: np.ndarray
    """[T]: where in the KV pool each one's keys and values go"""
    places: np.ndarray
    """[R]"""
    firsts: np.ndarray
    """[R]: each row's first token"""
    lengths: np.ndarray
    """[R]: its tokens"""
    contexts: np.ndarray
    """[R]: tokens that its last token sees, itself included"""


def flatten(rows: Sequence[Row], sequences: SequenceTable, block_size: int) -> Flat:
    """Lay the rows out in their order."""
    places = np.array([sequences[row.seq_id].place for row in rows], dtype=np.int64)
    ids: list[int] = []
    for row, place in zip(rows, places, strict=True):
        ids += row.tokens
        if row.ends_unknown:
            ids[-1] = -1 - int(place)
    lengths = np.array([len(row.tokens) for row in rows], dtype=np.int64)
    starts = np.array([row.start for row in rows], dtype=np.int64)
    firsts = lengths.cumsum() - lengths
    positions = np.arange(len(ids), dtype=np.int64) + (starts - firsts).repeat(lengths)
    block, within = np.divmod(positions, block_size)
    blocks = sequences.tables[places.repeat(lengths), block].astype(np.int64)
    return Flat(
        tokens=np.array(ids, dtype=np.int64),
        positions=positions,
        slots=blocks * block_size + within,
        places=places,
        firsts=firsts,
        lengths=lengths,
        contexts=starts + lengths,
    )
