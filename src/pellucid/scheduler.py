"""Which sequences move on in the next step, by how much, and who must make room.

There are no phases. A sequence has `tokens` (all it has) and `computed` (how many of them have
their keys and values stored). Every step brings `computed` closer to `len(tokens)`; when it gets
there, the last token's logits give one token more. A prefill chunk, a decode step and a recompute
after preemption are the same row with a different number of new tokens.

    waiting ──admit──▶ running ──commit──▶ finished
       ▲                  │
       └─────preempt──────┘      blocks ran out: the youngest gives its own back and starts over

What the switches do here:

* `batching` decides when a waiting sequence may join (the `Admission` classes below);
* `chunked_prefill` bounds the tokens that sequences with more than one to compute get per step, all
  together; one that needs a single token always gets it, so answers never wait for prompts;
* `kv_cache` off sets `computed` back to 0 after each new token.

Fairness: first come, first served, at every door. A sequence at the head of the queue that lacks
blocks holds up those behind it, so that small requests cannot starve a large one. Progress: a
request that could not be completed alone in the pool is refused when it arrives, so the oldest
running sequence can always take blocks from younger ones and finish.

Sources: Yu et al. 2022 (Orca); Kwon et al. 2023, arXiv:2309.06180 (preemption by recompute);
Agrawal et al. 2023, arXiv:2308.16369 (chunked prefill).
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pellucid.cache.blocks import BlockPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.request import (
    UNKNOWN,
    FinishReason,
    Output,
    Request,
    Row,
    SamplingParams,
    Stats,
    StepPlan,
    StepResult,
    TokenLogprob,
)
from pellucid.text.stream import Text


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer in the making: the scheduler's own state."""

    id: int
    request: Request
    index: int
    tokens: list[int]
    num_prompt: int
    limit: int
    """Tokens it may have in all, prompt included."""
    seed: int
    text: Text
    arrival: float
    elder: Sequence | None = None
    """The request's first sequence, whose prompt blocks this one can share."""
    pretended: int = 0
    """Leading tokens that count as stored when it is admitted, though nobody computed them."""
    computed: int = 0
    """Tokens whose keys and values are stored, or will be by the steps already launched."""
    in_flight: int = 0
    """Tokens that launched steps are about to sample."""
    blocks: list[int] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)
    started: float | None = None
    first_token: float | None = None
    num_preemptions: int = 0
    announced: bool = False
    """The prompt was sent with an earlier output."""

    @property
    def params(self) -> SamplingParams:
        return self.request.params

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def length(self) -> int:
        """Tokens it has, those in flight included."""
        return len(self.tokens) + self.in_flight

    @property
    def waits_for_tokens(self) -> bool:
        """Whether its next row must wait until what is in flight has landed: it may have no next
        row, or the next choice depends on tokens that only the device knows yet."""
        return self.in_flight > 0 and (self.length >= self.limit or looks_back(self.params))

    @property
    def prompt_ready(self) -> bool:
        return self.computed >= self.num_prompt

    @property
    def wants_prompt_logprobs(self) -> bool:
        wanted = self.params.prompt_logprobs is not None and self.elder is None
        return wanted and len(self.prompt_logprobs) < self.num_prompt


def looks_back(params: SamplingParams) -> bool:
    """Whether choosing a token takes the tokens before it (penalties)."""
    penalties = (params.presence_penalty, params.frequency_penalty)
    return params.repetition_penalty != 1 or any(penalties)


class Admission(Protocol):
    """When waiting sequences may join."""

    def opens(self, num_running: int, num_waiting: int, waited: float, expects_more: bool) -> bool:
        """Whether sequences may be admitted in this step.

        `waited` is how long the first in the queue has waited, in seconds; `expects_more` is False
        once the caller has said that no further request is coming.
        """


class ContinuousAdmission:
    """At any step."""

    def opens(self, num_running: int, num_waiting: int, waited: float, expects_more: bool) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class BatchAdmission:
    """Static and dynamic batching: a batch is formed, runs until its last answer has ended, and
    only then the next one is formed. It starts when it is full, when its first request has waited
    for `patience` seconds, or when nothing more is expected. Static batching waits (almost)
    forever for a full batch, dynamic batching only for a moment."""

    size: int
    patience: float

    def opens(self, num_running: int, num_waiting: int, waited: float, expects_more: bool) -> bool:
        full = num_waiting >= self.size
        return num_running == 0 and (full or waited >= self.patience or not expects_more)


def choose_admission(config: EngineConfig) -> Admission:
    match config.batching:
        case "static":
            return BatchAdmission(config.max_seqs, patience=1.0)
        case "dynamic":
            return BatchAdmission(config.max_seqs, patience=0.02)
        case _:
            return ContinuousAdmission()


class Scheduler:
    """Owns all sequences and the block pool. No tensors, no I/O."""

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
        self._max_seqs = config.max_seqs
        self._budget = chunk or 2**62
        self._keeps_kv = config.kv_cache == "on"
        self._admission = choose_admission(config)
        self._eos = frozenset(eos_token_ids)
        self._now = now
        self._next_id = 0

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, request: Request, open_text: Callable[[], Text]) -> None:
        """Queue the request's `n` sequences; `InputError` if they could never be completed."""
        limit = self._limit(request)
        seed = request.params.seed
        base = random.getrandbits(62) if seed is None else seed
        elder: Sequence | None = None
        for index in range(request.params.n):
            sequence = Sequence(
                id=self._new_id(),
                request=request,
                index=index,
                tokens=list(request.prompt_token_ids),
                num_prompt=len(request.prompt_token_ids),
                limit=limit,
                seed=base + index,
                text=open_text(),
                arrival=self._now(),
                elder=elder,
            )
            elder = elder or sequence
            self.waiting.append(sequence)

    def abort(self, request_id: str) -> None:
        """Forget the request and free its blocks; an unknown or finished one is no error."""
        for sequence in [s for s in self.running if s.request.id == request_id]:
            self.running.remove(sequence)
            self.pool.release(sequence.blocks)
        if any(s.request.id == request_id for s in self.waiting):
            self.waiting = deque(s for s in self.waiting if s.request.id != request_id)

    def pretend(self, request_id: str, computed: int) -> None:
        """Sequences of a waiting request will begin with `computed` tokens counted as stored."""
        for sequence in self.waiting:
            if sequence.request.id == request_id and self._keeps_kv:
                # The last token is always computed: its logits choose the next.
                sequence.pretended = min(computed, sequence.num_prompt - 1)

    def plan(self) -> StepPlan:
        """What the next step computes: at most one row per running sequence, oldest first."""
        self._admit()
        plan = StepPlan()
        budget = self._budget
        position = 0
        while position < len(self.running):
            sequence = self.running[position]
            wanted = 0 if sequence.waits_for_tokens else sequence.length - sequence.computed
            count = wanted if wanted == 1 else min(wanted, budget)
            if count and self._make_room(sequence, sequence.computed + count):
                plan.rows.append(self._row(sequence, count))
                budget -= count if wanted > 1 else 0
            position += 1
        return plan

    def commit(self, plan: StepPlan, result: StepResult) -> list[Output]:
        """Take in what a step computed: append tokens, end what has ended, free its blocks."""
        outputs = []
        by_id = {sequence.id: sequence for sequence in self.running}
        entries = zip(plan.rows, result.sampled, result.prompt_logprobs, strict=True)
        for row, sampled, scores in entries:
            sequence = by_id.get(row.seq_id)
            if sequence is None:  # ended, aborted or preempted while the step ran
                continue
            self._note_scores(sequence, row, scores)
            if sampled is not None:
                sequence.in_flight -= 1
                outputs.append(self._append(sequence, sampled))
        return outputs

    def check_integrity(self) -> None:
        """Assert that blocks, sequences and counts agree; holds between any two steps."""
        assert all(not s.blocks and not s.computed for s in self.waiting), (
            "a waiting one has blocks"
        )
        for sequence in self.running:
            assert sequence.computed < sequence.length, "a running one has nothing to do"
            assert self.pool.missing(sequence.blocks, sequence.computed) == 0, "too few blocks"
        self.pool.check_integrity(s.blocks for s in self.running)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _limit(self, request: Request) -> int:
        num_prompt, wanted = len(request.prompt_token_ids), request.params.max_tokens
        if num_prompt == 0:
            raise InputError("the prompt is empty: it must have at least one token", param="prompt")
        # The last token's own keys and values are never needed, hence the one more.
        capacity = self.pool.num_blocks * self.pool.block_size + 1
        for most, what, remedy in (
            (
                self.context_length,
                "this model's maximum context length",
                "shorten the prompt or lower max_tokens",
            ),
            (capacity, "what the KV cache holds", "raise memory or num_blocks"),
        ):
            if num_prompt + (wanted or 1) > most:
                raise InputError(  # in words that client libraries look for
                    f"The prompt is too long: {what} is {most} tokens, but the prompt has "
                    f"{num_prompt} tokens and {wanted or 'at least 1'} more are asked for: "
                    f"{remedy}",
                    param="max_tokens" if wanted and num_prompt < most else "prompt",
                    code="context_length_exceeded",
                )
        most = min(self.context_length, capacity)
        return most if wanted is None else num_prompt + wanted

    def _admit(self) -> None:
        if not self.waiting:
            return
        waited = self._now() - self.waiting[0].arrival
        if not self._admission.opens(
            len(self.running), len(self.waiting), waited, self.expects_more
        ):
            return
        promised = sum(self.pool.missing(s.blocks, s.length) for s in self.running)
        for sequence in self._admissible():
            shared = self._shareable(sequence)
            needed = self.pool.blocks_for(len(sequence.tokens)) - len(shared)
            if promised + needed > self.pool.num_free or len(self.running) >= self._max_seqs:
                return
            promised += needed
            self.waiting.remove(sequence)
            self.running.append(sequence)
            sequence.blocks = self.pool.share(shared)
            sequence.computed = max(len(shared) * self.pool.block_size, sequence.pretended)
            sequence.started = sequence.started or self._now()

    def _admissible(self) -> Iterator[Sequence]:
        """Waiting sequences in order, less those whose elder is about to compute their prompt."""
        for sequence in list(self.waiting):
            if sequence.elder not in self.running or sequence.elder.prompt_ready:
                yield sequence

    def _shareable(self, sequence: Sequence) -> list[int]:
        """The elder's blocks that hold nothing but prompt, short of the prompt's last token."""
        elder = sequence.elder
        if not self._keeps_kv or elder is None or not elder.prompt_ready:
            return []
        return elder.blocks[: (sequence.num_prompt - 1) // self.pool.block_size]

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for `num_tokens`, taken from younger sequences if need be.

        False if `sequence` itself was the youngest and had to give way.
        """
        while not self.pool.grow(sequence.blocks, num_tokens):
            victim = self.running.pop()
            self.pool.release(victim.blocks)
            victim.computed = victim.in_flight = 0
            victim.id = self._new_id()  # what is still in flight for the old one will be ignored
            victim.num_preemptions += 1
            self.num_preemptions += 1
            self.waiting.appendleft(victim)
            if victim is sequence:
                return False
        return True

    def _row(self, sequence: Sequence, count: int) -> Row:
        """The next `count` tokens, which from here on count as computed."""
        start, end = sequence.computed, sequence.computed + count
        samples = end == sequence.length
        tokens = sequence.tokens[start:end]
        tokens += [UNKNOWN] * (count - len(tokens))
        sequence.computed = end
        sequence.in_flight += samples
        return Row(
            seq_id=sequence.id,
            tokens=tokens,
            start=start,
            blocks=sequence.blocks,
            samples=samples,
            scores_prompt=sequence.wants_prompt_logprobs and start < sequence.num_prompt,
            params=sequence.params,
            seed=sequence.seed,
            history=sequence.tokens,
            num_prompt=sequence.num_prompt,
        )

    def _note_scores(self, sequence: Sequence, row: Row, scores: list[TokenLogprob] | None) -> None:
        if scores is None:
            return
        known = sequence.prompt_logprobs
        if not known:
            known.append(None)
        # A recompute after preemption scores positions again that are known already.
        known.extend(scores[len(known) - row.start - 1 :])

    def _append(self, sequence: Sequence, sampled: TokenLogprob) -> Output:
        token, params = sampled.token_id, sequence.params
        sequence.tokens.append(token)
        sequence.first_token = sequence.first_token or self._now()
        if not self._keeps_kv:
            self._recompute_next(sequence)
        reason, stop_reason = self._ends(sequence, token)
        ended_by_token = reason == "stop"
        text = "" if ended_by_token else sequence.text.push([token])
        if sequence.text.stopped is not None:
            reason, stop_reason = "stop", sequence.text.stopped
        output = Output(
            request_id=sequence.request.id,
            index=sequence.index,
            token_ids=[token],
            text=text,
            logprobs=None if params.logprobs is None else [sampled],
        )
        self._announce(sequence, output)
        if reason is not None:
            self._finish(sequence, output, reason, stop_reason)
        return output

    def _recompute_next(self, sequence: Sequence) -> None:
        """The prefix counts as not computed, and the others come first in the next step."""
        sequence.computed = 0
        self.running.remove(sequence)
        self.running.append(sequence)

    def _ends(self, sequence: Sequence, token: int) -> tuple[FinishReason | None, str | int | None]:
        params = sequence.params
        if token in params.stop_token_ids:
            return "stop", token
        if token in self._eos and not params.ignore_eos:
            return "stop", None
        if len(sequence.tokens) >= sequence.limit:
            return "length", None
        return None, None

    def _announce(self, sequence: Sequence, output: Output) -> None:
        if sequence.announced:
            return
        sequence.announced = True
        output.prompt_token_ids = sequence.request.prompt_token_ids
        if sequence.params.prompt_logprobs is not None:
            output.prompt_logprobs = (sequence.elder or sequence).prompt_logprobs

    def _finish(
        self,
        sequence: Sequence,
        output: Output,
        reason: FinishReason,
        stop_reason: str | int | None,
    ) -> None:
        self.running.remove(sequence)
        self.pool.release(sequence.blocks)
        now = self._now()
        output.text += sequence.text.finish()
        output.finish_reason = reason
        output.stop_reason = stop_reason
        output.stats = Stats(
            num_prompt_tokens=sequence.num_prompt,
            num_output_tokens=sequence.num_output,
            queue_s=(sequence.started or now) - sequence.arrival,
            first_token_s=(sequence.first_token or now) - sequence.arrival,
            total_s=now - sequence.arrival,
            num_preemptions=sequence.num_preemptions,
        )
