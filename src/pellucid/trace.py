"""Writing down what the scheduler does: `StepTrace` makes events of it, `NullTrace` is off.

The scheduler tells its trace what it decides, three times a step and once for each sequence that
comes or goes; it never asks whether anybody listens. `NullTrace` costs these empty calls, whatever
the number of rows: the trace is handed a whole plan and works out the rows' new blocks by itself.

    add, plan ──queued, admitted, waits, left, planned──▶ trace ──close──▶ StepEvent ──take──▶
    commit ─────────────────landed, forgot, left────────▶

Whoever switches a trace on begins with `pool_state`, and takes the events after each step. If
nobody does, the oldest give way to the newest, and how many were lost is counted: then the next
reader has to begin with a new state.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pellucid.answer import Answer
from pellucid.cache.blocks import BlockPool, BlockTable
from pellucid.events import (
    Admitted,
    Departure,
    Forgot,
    Happening,
    Landed,
    Left,
    Obstacle,
    Planned,
    PoolState,
    Queued,
    SequenceState,
    State,
    StepEvent,
    Waits,
)
from pellucid.request import StepPlan, StepResult

MOST_EVENTS = 1024
"""Events that are kept for a reader who is late."""


class Traceable(Protocol):
    """What a trace reads of a scheduler's sequence."""

    @property
    def id(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def request_id(self) -> str: ...
    @property
    def answer(self) -> Answer: ...
    @property
    def computed(self) -> int: ...
    @property
    def table(self) -> BlockTable: ...


class Taken(NamedTuple):
    """Events since they were taken last."""

    events: Several[StepEvent]
    dropped: int
    """Older ones that had to give way: what follows does not fit what was taken before."""


NOTHING = Taken((), 0)


class Trace(Protocol):
    """What the scheduler says, in the order of saying."""

    @property
    def last_id(self) -> int:
        """Of the last event made."""

    @property
    def step(self) -> int:
        """Steps launched so far, as far as it has been told."""

    def queued(self, sequence: Traceable) -> None: ...
    def admitted(self, sequence: Traceable, pool: BlockPool) -> None: ...
    def waits(self, sequence: Traceable, why: Obstacle) -> None: ...
    def planned(self, plan: StepPlan, running: Iterable[Traceable]) -> None: ...
    def landed(self, plan: StepPlan, result: StepResult, by_id: Mapping[int, Traceable]) -> None:
        """`by_id`: the sequences that run; rows of others count for nothing any more."""

    def forgot(self, sequence: Traceable) -> None: ...
    def left(self, sequence: Traceable, why: Departure) -> None:
        """Called while it still has its blocks."""

    def close(self) -> None:
        """A step is over: make an event of what was said since the last one, if there is any."""

    def take(self) -> Taken: ...


@dataclass(frozen=True, slots=True)
class NullTrace:
    """Off: nothing is written down but where the numbers go on."""

    last_id: int = 0
    step: int = 0

    def queued(self, sequence: Traceable) -> None:
        pass

    def admitted(self, sequence: Traceable, pool: BlockPool) -> None:
        pass

    def waits(self, sequence: Traceable, why: Obstacle) -> None:
        pass

    def planned(self, plan: StepPlan, running: Iterable[Traceable]) -> None:
        pass

    def landed(self, plan: StepPlan, result: StepResult, by_id: Mapping[int, Traceable]) -> None:
        pass

    def forgot(self, sequence: Traceable) -> None:
        pass

    def left(self, sequence: Traceable, why: Departure) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> Taken:
        return NOTHING


class StepTrace:
    """Events of a scheduler that was in this `state` when it began."""

    def __init__(
        self,
        state: PoolState,
        most: int = MOST_EVENTS,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.last_id = state.id
        self.step = state.step
        self._now = now
        self._events: deque[StepEvent] = deque(maxlen=most)
        self._dropped = 0
        self._happened: list[Happening] = []
        self._waits: list[Waits] = []
        self._waited: list[Waits] = []
        """Of the event before."""
        self._held = {each.sequence: len(each.blocks) for each in state.sequences}
        """Of each sequence, how many of its blocks were told of."""

    def queued(self, sequence: Traceable) -> None:
        answer = sequence.answer
        self._held[sequence.number] = 0
        self._happened.append(
            Queued(sequence.number, sequence.request_id, answer.index, answer.num_prompt)
        )

    def admitted(self, sequence: Traceable, pool: BlockPool) -> None:
        shared = list(sequence.table.blocks)
        refs = [pool.references(block) for block in shared]
        self._held[sequence.number] = len(shared)
        self._happened.append(Admitted(sequence.number, shared, refs, sequence.computed))

    def waits(self, sequence: Traceable, why: Obstacle) -> None:
        self._waits.append(Waits(sequence.number, why))

    def planned(self, plan: StepPlan, running: Iterable[Traceable]) -> None:
        by_id = {sequence.id: sequence for sequence in running}
        for row in plan.rows:
            sequence = by_id[row.seq_id]
            number, blocks = sequence.number, sequence.table.blocks
            new = blocks[self._held[number] :]
            self._held[number] = len(blocks)
            self._happened.append(
                Planned(number, sequence.request_id, row.start, len(row.tokens), row.samples, new)
            )
        self.step += bool(plan.rows)

    def landed(self, plan: StepPlan, result: StepResult, by_id: Mapping[int, Traceable]) -> None:
        for row, found in zip(plan.rows, result.rows, strict=True):
            if sequence := by_id.get(row.seq_id):
                self._happened.append(Landed(sequence.number, len(found.tokens)))

    def forgot(self, sequence: Traceable) -> None:
        self._happened.append(Forgot(sequence.number))

    def left(self, sequence: Traceable, why: Departure) -> None:
        self._held.pop(sequence.number, None)
        self._happened.append(Left(sequence.number, why, list(sequence.table.blocks)))

    def close(self) -> None:
        waits, self._waits = self._waits, []
        if not self._happened and waits == self._waited:
            return
        self._waited = waits
        happened, self._happened = self._happened, []
        self.last_id += 1
        self._dropped += len(self._events) == self._events.maxlen
        self._events.append(
            StepEvent(
                id=self.last_id, step=self.step, ns=self._now(), happened=happened, waits=waits
            )
        )

    def take(self) -> Taken:
        if not self._events:
            return NOTHING
        taken = Taken(tuple(self._events), self._dropped)
        self._events.clear()
        self._dropped = 0
        return taken


def pool_state(
    pool: BlockPool,
    running: Iterable[Traceable],
    waiting: Iterable[Traceable],
    *,
    last_id: int = 0,
    step: int = 0,
) -> PoolState:
    """All of it between two steps: what an event stream begins with."""
    return PoolState(
        id=last_id,
        step=step,
        ns=time.monotonic_ns(),
        num_blocks=pool.num_blocks,
        block_size=pool.block_size,
        sequences=[
            *(_state_of(sequence, "running") for sequence in running),
            *(_state_of(sequence, "waiting") for sequence in waiting),
        ],
    )


def _state_of(sequence: Traceable, state: State) -> SequenceState:
    answer = sequence.answer
    # Whoever has put out a token had everything before it computed once.
    known = len(answer.tokens) - 1 if answer.num_output else 0
    return SequenceState(
        sequence=sequence.number,
        request=sequence.request_id,
        index=answer.index,
        state=state,
        num_tokens=len(answer.tokens),
        computed=sequence.computed,
        reached=max(known, sequence.computed),
        blocks=list(sequence.table.blocks),
    )
