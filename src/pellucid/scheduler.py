"""Which sequences move on in the next step, by how much, and who must make room.

There are no phases. A sequence has `tokens` (all it has) and `computed` (how many of them have
their keys and values stored). Every step brings `computed` closer to `len(tokens)`; when it gets
there, the last token's logits give one token more. A prefill chunk, a decode step and a recompute
after preemption are the same row with a different number of new tokens.

    waiting ──admit──▶ running ──commit──▶ finished
       ▲                  │
       └─────preempt──────┘      blocks ran out: the youngest gives its own back and starts over

What the switches do here:

* `batching` decides when a waiting sequence may join (admission.py);
* `chunked_prefill` bounds the tokens that sequences with more than one to compute get per step, all
  together; one that needs a single token always gets it, so answers never wait for prompts;
* `kv_cache` off sets `computed` back to 0 after each new token.

Fairness: first come, first served, at every door. A sequence at the head of the queue that lacks
blocks holds up those behind it, so that small requests cannot starve a large one. Progress: a
request that could not be completed alone in the pool is refused when it arrives, so the oldest
running sequence can always take blocks from younger ones and finish.

Failures: when a step fails, its sequences are *suspects*. Everything running gives its blocks back
and computes its tokens again, suspects one at a time, until the one whose step fails alone is found
and ended; all the others go on as if nothing had happened (`failed`).

Sources: Yu et al. 2022 (Orca); Kwon et al. 2023, arXiv:2309.06180 (preemption by recompute);
Agrawal et al. 2023, arXiv:2308.16369 (chunked prefill).
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass, field

from pellucid.admission import choose_admission
from pellucid.answer import Answer, token_limit
from pellucid.cache.blocks import BlockPool, BlockTable
from pellucid.cache.prefix import NoPrefix, Prefix, PretendedPrefix, SiblingPrefix
from pellucid.config import EngineConfig
from pellucid.events import Departure
from pellucid.request import UNKNOWN, Output, Request, Row, StepPlan, StepResult
from pellucid.text.stream import Text
from pellucid.trace import NullTrace, Trace

MOST_FAILURES = 3
"""Failed steps that a sequence may be part of without anybody being found at fault. A step that
fails only in company cannot be put down to one sequence; after so many tries all of it ends."""

SMALLEST_BUDGET = 64
"""Tokens a step to which running out of memory can shrink the budget."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer as the scheduler sees it: tokens to compute, and blocks to keep them in."""

    id: int
    """The runner's name for it, another one after each preemption."""
    number: int
    """People's name for it, the same to its end."""
    answer: Answer
    seed: int
    prefix: Prefix
    computed: int = 0
    """Tokens whose keys and values are stored, or will be by the steps already launched."""
    in_flight: int = 0
    """Tokens that launched steps are about to sample."""
    table: BlockTable = field(default_factory=BlockTable)
    is_running: bool = False
    is_known: bool = False
    """Whether the runner has had a row of it under its present id."""
    is_suspect: bool = False
    num_failures: int = 0

    @property
    def request_id(self) -> str:
        return self.answer.request.id

    @property
    def num_prompt(self) -> int:
        return self.answer.num_prompt

    @property
    def length(self) -> int:
        """Tokens it has, those in flight included."""
        return len(self.answer.tokens) + self.in_flight

    @property
    def num_wanted(self) -> int:
        """Tokens to compute next; 0 while a token is in flight that may be its last."""
        if self.in_flight and self.length >= self.answer.limit:
            return 0
        return self.length - self.computed


class Scheduler:
    """Owns all sequences and the block pool. No tensors, no I/O."""

    _budget: int
    """Tokens that sequences with more than one to compute get in a step, all together."""

    def __init__(
        self,
        config: EngineConfig,
        pool: BlockPool,
        *,
        context_length: int,
        eos_token_ids: tuple[int, ...],
        chunk: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self.context_length = context_length
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.expects_more = True
        self.num_preemptions = 0
        self.trace: Trace = NullTrace()
        """Told all that happens here."""
        self._adopt(config, chunk)
        self._eos = frozenset(eos_token_ids)
        self._now = now
        self._next_id = 0
        self._suspects: list[Sequence] = []
        """Sequences whose step failed and that are tried alone, in this order."""
        self._left: list[int] = []
        """Ids that the runner knows and that no longer stand for a sequence."""

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, request: Request, open_text: Callable[[], Text]) -> None:
        """Queue the request's `n` sequences; `InputError` if they could never be completed."""
        # The last token's own keys and values are never needed, hence the one more.
        capacity = self.pool.num_blocks * self.pool.block_size + 1
        limit = token_limit(request, self.context_length, capacity)
        seed = request.params.seed
        base = random.getrandbits(62) if seed is None else seed
        leader: Sequence | None = None
        for index in range(request.params.n):
            answer = Answer(
                request,
                index,
                limit=limit,
                end_tokens=self._eos,
                text=open_text(),
                arrival=self._now(),
                scored_by=leader.answer if leader is not None else None,
            )
            prefix: Prefix = NoPrefix()
            if leader is not None and self._keeps_kv:
                prefix = SiblingPrefix(leader)
            number = self._new_id()
            sequence = Sequence(number, number, answer, base + index, prefix)
            leader = leader or sequence
            self.waiting.append(sequence)
            self.trace.queued(sequence)

    def abort(self, request_id: str) -> None:
        """Forget the request and free its blocks; an unknown or finished one is no error."""
        self._suspects = [s for s in self._suspects if s.request_id != request_id]
        for sequence in [s for s in self.running if s.request_id == request_id]:
            self._leave(sequence, "aborted")
        for sequence in [s for s in self.waiting if s.request_id == request_id]:
            self.waiting.remove(sequence)
            self.trace.left(sequence, "aborted")

    def pretend(self, request_id: str, computed: int) -> None:
        """Sequences of a waiting request will begin with `computed` tokens counted as stored."""
        for sequence in self.waiting:
            if sequence.request_id == request_id and self._keeps_kv:
                sequence.prefix = PretendedPrefix(computed)

    def plan(self) -> StepPlan:
        """What the next step computes: at most one row per running sequence, oldest first."""
        self._suspects = [sequence for sequence in self._suspects if sequence.is_suspect]
        suspect = self._suspects[0] if self._suspects else None
        if suspect is None:
            self._admit_waiting()
        elif not suspect.is_running and not self._admit(suspect, promised=0):
            self._preempt_all()  # alone in the pool there is room for it
            self._admit(suspect, promised=0)
        plan = StepPlan()
        budget = self._budget
        position = 0
        while position < len(self.running):
            sequence = self.running[position]
            position += 1
            if suspect is not None and sequence is not suspect:
                continue
            wanted = sequence.num_wanted
            count = wanted if wanted == 1 else min(wanted, budget)
            if count and self._make_room(sequence, sequence.computed + count):
                self._add_row(plan, sequence, count)
                budget -= count if wanted > 1 else 0
        if plan.rows:
            plan.left, self._left = self._left, []
        self.trace.planned(plan, self.running)
        return plan

    def commit(self, plan: StepPlan, result: StepResult) -> list[Output]:
        """Take in what a step computed: append tokens, end what has ended, free its blocks."""
        outputs = []
        by_id = {sequence.id: sequence for sequence in self.running}
        self.trace.landed(plan, result, by_id)
        for row, found in zip(plan.rows, result.rows, strict=True):
            sequence = by_id.get(row.seq_id)
            if sequence is None:  # ended, aborted or preempted while the step ran
                continue
            answer = sequence.answer
            if found.prompt_scores is not None:
                answer.score_prompt(found.prompt_scores, row.start)
            sequence.in_flight -= row.num_logits
            if found.error:
                outputs.append(self._fail(sequence, found.error))
            elif found.tokens:
                output = answer.take(found.tokens, found.scores, self._now())
                outputs.append(output)
                sequence.is_suspect = False
                if output.finish_reason is not None:
                    self._leave(sequence, "finished")
                elif not self._keeps_kv:
                    self._recompute_next(sequence)
        return outputs

    def failed(self, plans: Several[StepPlan], message: str) -> list[Output]:
        """Steps failed, and nothing of what was in flight is known. End the one sequence that is at
        fault, or find out which it is: all compute their tokens again, suspects one by one."""
        ids = {row.seq_id for plan in plans for row in plan.rows}
        suspects = [s for s in self.running if s.id in ids]
        self._suspects += [s for s in suspects if not s.is_suspect]
        for sequence in suspects:
            sequence.num_failures += 1
            sequence.is_suspect = True
        guilty = [s for s in suspects if len(suspects) == 1 or s.num_failures >= MOST_FAILURES]
        outputs = [self._fail(sequence, message) for sequence in guilty]
        if guilty:  # those that were in its company are cleared
            for sequence in (*self.running, *self.waiting):
                sequence.num_failures = 0
        self.restart()
        return outputs

    def shrink(self, num_tokens: int) -> bool:
        """A step of so many tokens was too much: allow half of that from now on. False if steps
        cannot get smaller that way."""
        if num_tokens <= SMALLEST_BUDGET:
            return False
        self._budget = max(SMALLEST_BUDGET, min(self._budget, num_tokens) // 2)
        return True

    def restart(self) -> None:
        """The runner has forgotten all sequences: they will be computed again, in their order."""
        self._preempt_all()
        self._left.clear()

    def switch(self, config: EngineConfig, chunk: int) -> None:
        """Go on by other switches, with a runner that knows no sequence."""
        self._adopt(config, chunk)
        self.restart()
        if not self._keeps_kv:
            for sequence in self.waiting:
                sequence.prefix = NoPrefix()

    def _adopt(self, config: EngineConfig, chunk: int) -> None:
        self._max_seqs = config.max_seqs
        self._budget = chunk or 2**62
        self._keeps_kv = config.kv_cache == "on"
        self._admission = choose_admission(config)

    def check_integrity(self) -> None:
        """Assert that blocks, sequences and counts agree; holds between any two steps."""
        assert all(not s.table.blocks and not s.computed for s in self.waiting), (
            "a waiting one has blocks"
        )
        for sequence in self.running:
            assert sequence.computed < sequence.length, "a running one has nothing to do"
            assert self.pool.missing(sequence.table, sequence.computed) == 0, "too few blocks"
        self.pool.check_integrity(s.table for s in self.running)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _admit_waiting(self) -> None:
        """Let waiting sequences join, in order, as far as blocks and `max_seqs` go."""
        if not self.waiting:
            return
        waited = self._now() - self.waiting[0].answer.arrival
        if not self._admission.opens(
            len(self.running), len(self.waiting), waited, self.expects_more
        ):
            self.trace.waits(self.waiting[0], "batch")
            return
        promised = sum(self.pool.missing(s.table, s.length) for s in self.running)
        for sequence in self._admissible():
            needed = self._admit(sequence, promised)
            if not needed:
                return
            promised += needed

    def _admit(self, sequence: Sequence, promised: int) -> int:
        """Have it run. Returns the blocks that its tokens need; 0 if there is no room for it beside
        `promised` blocks that others need."""
        found = sequence.prefix.find(sequence.length, self.pool.block_size)
        needed = self.pool.blocks_for(sequence.length) - len(found.blocks)
        lacks_blocks = promised + needed > self.pool.num_free
        if lacks_blocks or len(self.running) >= self._max_seqs:
            self.trace.waits(sequence, "blocks" if lacks_blocks else "rows")
            return 0
        self.waiting.remove(sequence)
        self.running.append(sequence)
        sequence.is_running = True
        sequence.table = self.pool.share(found.blocks)
        sequence.computed = found.num_computed
        sequence.answer.started = sequence.answer.started or self._now()
        self.trace.admitted(sequence, self.pool)
        return needed

    def _admissible(self) -> Iterator[Sequence]:
        """Waiting sequences in order, less those whose first tokens are just being computed."""
        for sequence in list(self.waiting):
            if sequence.prefix.is_pending():
                self.trace.waits(sequence, "sibling")
            else:
                yield sequence

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for `num_tokens`, taken from younger sequences if need be.

        False if `sequence` itself was the youngest and had to give way.
        """
        while not self.pool.grow(sequence.table, num_tokens):
            victim = self.running[-1]
            victim.answer.num_preemptions += 1
            self.num_preemptions += 1
            self._preempt(victim, "preempted")
            if victim is sequence:
                return False
        return True

    def _preempt_all(self) -> None:
        while self.running:
            self._preempt(self.running[-1], "restarted")

    def _preempt(self, sequence: Sequence, why: Departure) -> None:
        """Its blocks are given back; it waits in front and will compute its tokens again."""
        self._leave(sequence, why)
        sequence.computed = sequence.in_flight = 0
        sequence.is_known = False
        sequence.id = self._new_id()  # what is still in flight for the old id will be ignored
        self.waiting.appendleft(sequence)

    def _leave(self, sequence: Sequence, why: Departure) -> None:
        """It is no longer running."""
        self.trace.left(sequence, why)
        self.running.remove(sequence)
        sequence.is_running = False
        self.pool.release(sequence.table)
        if sequence.is_known:
            self._left.append(sequence.id)

    def _fail(self, sequence: Sequence, message: str) -> Output:
        self._leave(sequence, "failed")
        sequence.is_suspect = False
        return sequence.answer.fail(message, self._now())

    def _add_row(self, plan: StepPlan, sequence: Sequence, count: int) -> None:
        """The next `count` tokens, which from here on count as computed."""
        start, end = sequence.computed, sequence.computed + count
        known, num_prompt = sequence.answer.tokens, sequence.num_prompt
        if not sequence.is_known:
            plan.starts.append(sequence.answer.start(sequence.id, sequence.seed))
            sequence.is_known = True
        tokens = known[start:end]
        tokens += [UNKNOWN] * (count - len(tokens))
        num_logits = int(end == sequence.length)
        scored = sequence.answer.wants_prompt_scores
        plan.rows.append(
            Row(
                seq_id=sequence.id,
                tokens=tokens,
                start=start,
                new_blocks=sequence.table.unsent(),
                table_version=sequence.table.version,
                num_logits=num_logits,
                targets=known[start + 1 : min(end + 1, num_prompt)] if scored else [],
            )
        )
        sequence.computed = end
        sequence.in_flight += num_logits

    def _recompute_next(self, sequence: Sequence) -> None:
        """The prefix counts as not computed, and the others come first in the next step."""
        sequence.computed = 0
        self.trace.forgot(sequence)
        self.running.remove(sequence)
        self.running.append(sequence)
