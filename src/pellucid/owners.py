"""Who holds which block, worked out from events alone.

`Owners` begins with a `PoolState` and takes one `StepEvent` after the other; after each it has the
block tables that the scheduler has. It checks what it is told as far as it can: a block that is
handed out must be free, a shared one must have an owner, and what a sequence gives back must be
what it held. So a stream with a hole in it is noticed, and not drawn as if it were whole.

The page does the same in TypeScript (`frontend/src/data/owners.ts`).
"""

from __future__ import annotations

from collections import Counter

from pellucid.events import (
    AGAIN,
    Admitted,
    Forgot,
    Happening,
    Landed,
    Left,
    Planned,
    PoolState,
    Queued,
    SequenceState,
    StepEvent,
)


class Inconsistent(ValueError):
    """An event does not fit the state before it."""


class Owners:
    """The sequences and their blocks after the events so far."""

    def __init__(self, state: PoolState) -> None:
        self.num_blocks, self.block_size = state.num_blocks, state.block_size
        self.id, self.step, self.ns = state.id, state.step, state.ns
        self.sequences = {
            each.sequence: SequenceState(
                **{field: getattr(each, field) for field in each.__struct_fields__}
                | {"blocks": list(each.blocks)}
            )
            for each in state.sequences
        }
        self.refs = Counter(block for each in state.sequences for block in each.blocks)
        """How many sequences hold each block; a free one is not in it."""

    def apply(self, event: StepEvent) -> None:
        """What has changed. Raises `Inconsistent` if it cannot have."""
        if event.id != self.id + 1:
            raise Inconsistent(f"event {event.id} follows event {self.id}")
        for happening in event.happened:
            self._apply(happening)
        self.id, self.step, self.ns = event.id, event.step, event.ns

    def state(self) -> PoolState:
        """All of it, for somebody who begins here."""
        return PoolState(
            id=self.id,
            step=self.step,
            ns=self.ns,
            num_blocks=self.num_blocks,
            block_size=self.block_size,
            sequences=list(self.sequences.values()),
        )

    def _apply(self, happening: Happening) -> None:
        if isinstance(happening, Queued):
            self.sequences[happening.sequence] = SequenceState(
                sequence=happening.sequence,
                request=happening.request,
                index=happening.index,
                state="waiting",
                num_tokens=happening.num_tokens,
                blocks=[],
            )
            return
        sequence = self.sequences.get(happening.sequence)
        if sequence is None:
            raise Inconsistent(f"nothing is known of sequence {happening.sequence}")
        match happening:
            case Admitted(_, shared, refs, num_computed):
                self._share(sequence, shared, refs)
                sequence.state = "running"
                self._reach(sequence, num_computed)
            case Planned(_, _, start, num_tokens, _, blocks):
                self._append(sequence, blocks)
                self._reach(sequence, start + num_tokens)
            case Landed(_, num_tokens):
                sequence.num_tokens += num_tokens
            case Forgot():
                sequence.computed = 0
            case Left():
                self._leave(sequence, happening)

    def _reach(self, sequence: SequenceState, computed: int) -> None:
        sequence.computed = computed
        sequence.reached = max(sequence.reached, computed)

    def _share(self, sequence: SequenceState, blocks: list[int], refs: list[int]) -> None:
        for block, told in zip(blocks, refs, strict=True):
            if not self.refs[block]:
                raise Inconsistent(f"block {block} is free and cannot be shared")
            self.refs[block] += 1
            if self.refs[block] != told:
                raise Inconsistent(f"block {block} has {self.refs[block]} owners, not {told}")
        sequence.blocks += blocks

    def _append(self, sequence: SequenceState, blocks: list[int]) -> None:
        for block in blocks:
            if self.refs[block]:
                raise Inconsistent(f"block {block} is handed out and was not free")
            self.refs[block] = 1
        sequence.blocks += blocks

    def _leave(self, sequence: SequenceState, left: Left) -> None:
        if left.blocks != sequence.blocks:
            raise Inconsistent(
                f"sequence {left.sequence} gives back {left.blocks} and held {sequence.blocks}"
            )
        for block in left.blocks:
            self.refs[block] -= 1
            if not self.refs[block]:
                del self.refs[block]
        del self.sequences[left.sequence]
        if left.why in AGAIN:
            # It waits in front of the others; those that run come before them all the same.
            sequence.state, sequence.computed, sequence.blocks = "waiting", 0, []
            self.sequences[left.sequence] = sequence
