"""What happens to sequences and to the blocks of the KV cache, as plain records.

Problem: whoever wants to see which sequence holds which block would have to be sent the whole pool
after each step: 32,768 blocks for a change of eight. Idea: the state once (`PoolState`), and from
then on what changed (`StepEvent`, one a step), in the order in which it happened. Whoever applies
the changes to the state (`owners.py`) has the scheduler's own block tables after each event.

    PoolState   sequence 1 holds [0, 1], sequence 2 waits
    StepEvent   Admitted(2, shared=[0], refs=[2])      block 0 has two owners now
                Planned(1, start=8, num_tokens=1, blocks=[2])
                Planned(2, start=4, num_tokens=5, blocks=[3])
                Landed(1, 1), Landed(2, 1)

A sequence keeps its number through preemptions, unlike the id that it has with the runner. With
`overlap` the rows that land in an event were planned in the one before it.

Trade-off: an event says less than a state would, so that nobody can begin in the middle: who missed
some is given a new state.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Departure = Literal["finished", "aborted", "failed", "preempted", "restarted"]
"""Why a sequence gave its blocks back. The last two wait again: `preempted`, since no block was
free; `restarted`, since the runner forgot everything (a switch was changed, or a step failed)."""
Obstacle = Literal["blocks", "rows", "batch", "sibling"]
"""What a waiting sequence waits for: a free block; a free row (`max_seqs`); its batch to fill, or
the one before it to end (`batching`); its sibling, which is computing their prompt."""
State = Literal["waiting", "running"]

AGAIN: frozenset[Departure] = frozenset({"preempted", "restarted"})
"""After these the sequence waits for its next turn."""


class Queued(msgspec.Struct, frozen=True, gc=False, tag="queued"):
    """A new sequence waits."""

    sequence: int
    request: str
    index: int
    """Which of the request's answers."""
    num_tokens: int
    """Of its prompt."""


class Admitted(msgspec.Struct, frozen=True, tag="admitted"):
    """It runs from here on, beginning with blocks that others have filled."""

    sequence: int
    shared: list[int]
    refs: list[int]
    """How many sequences hold each of `shared`, this one included."""
    num_computed: int
    """Leading tokens that need not be computed."""


class Planned(msgspec.Struct, frozen=True, tag="planned"):
    """A row of the step: so many of its tokens from `start` on are computed and written."""

    sequence: int
    request: str
    start: int
    num_tokens: int
    samples: bool
    """Whether a token is chosen after these."""
    blocks: list[int]
    """Taken for them, behind those that it had."""


class Landed(msgspec.Struct, frozen=True, gc=False, tag="landed"):
    """A row's step is done, and so many tokens were chosen."""

    sequence: int
    num_tokens: int


class Forgot(msgspec.Struct, frozen=True, gc=False, tag="forgot"):
    """With `kv_cache` off: what it has stored counts no more. It keeps its blocks."""

    sequence: int


class Left(msgspec.Struct, frozen=True, tag="left"):
    """It no longer runs or waits, or waits again (`AGAIN`); it gave up one reference to each of
    `blocks`, in the order of its tokens."""

    sequence: int
    why: Departure
    blocks: list[int]


Happening = Queued | Admitted | Planned | Landed | Forgot | Left


class Waits(msgspec.Struct, frozen=True, gc=False):
    """A sequence that could not join in this step."""

    sequence: int
    why: Obstacle


class StepEvent(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """What a step changed, and what came before it since the event before."""

    id: int
    """One more than the event's before it."""
    step: int
    """Steps launched so far; the same as the event's before it if this one has no rows."""
    ns: int
    """Of the engine's monotonic clock."""
    happened: list[Happening]
    waits: list[Waits] = []
    """Who was looked at and could not join; those behind them in the queue were not looked at."""


class SequenceState(msgspec.Struct, kw_only=True):
    """One sequence between two steps."""

    sequence: int
    request: str
    index: int
    state: State
    num_tokens: int
    """Prompt and answer so far, without what a step in flight is about to add."""
    computed: int = 0
    """Tokens whose keys and values are stored, or will be by the steps already launched."""
    reached: int = 0
    """The most that `computed` has ever been: tokens below it are computed again."""
    blocks: list[int] = []


class PoolState(msgspec.Struct, kw_only=True, tag="snapshot"):
    """All sequences and their blocks between two steps."""

    id: int
    """Of the last event that it includes."""
    step: int
    ns: int
    num_blocks: int
    block_size: int
    """Tokens a block has room for."""
    sequences: list[SequenceState]
    """Those that run, oldest first, then those that wait, in the order of the queue."""
