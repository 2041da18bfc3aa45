"""The scheduler against a made-up model: next token = f(all tokens so far), no tensors.

Whatever the switches, the block pool and the company, each request must get exactly the tokens
that it would get alone; nothing may be lost, starve or leak.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pellucid.cache.blocks import BlockPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.request import (
    UNKNOWN,
    Output,
    Request,
    Row,
    RowResult,
    SamplingParams,
    SequenceStart,
    StepPlan,
    StepResult,
    TokenLogprob,
)
from pellucid.scheduler import Scheduler
from pellucid.text.stream import open_text

CONTEXT = 64
EOS = 7


def next_token(tokens: list[int]) -> int:
    return (sum(tokens) * 31 + len(tokens) * 17) % 23


def expected(prompt: list[int], max_tokens: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(max_tokens):
        tokens.append(next_token(tokens))
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :]


class FakeRunner:
    """Keeps what plans tell it of each sequence, remembers what was written to each slot of the KV
    cache, and reads the history back from there."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.slots: dict[int, int] = {}
        self.num_computed = 0
        self.sampled: dict[int, int] = {}
        self.starts: dict[int, SequenceStart] = {}
        self.tables: dict[int, tuple[int, list[int]]] = {}

    def run(self, plan: StepPlan) -> StepResult:
        self.take_in(plan)
        for row in plan.rows:
            for position, token in enumerate(row.tokens, row.start):
                token = self.sampled[row.seq_id] if token == UNKNOWN else token
                self.slots[self._slot(row, position)] = token
        return StepResult([self.result_of(row) for row in plan.rows])

    def take_in(self, plan: StepPlan) -> None:
        for seq_id in plan.left:
            del self.starts[seq_id], self.tables[seq_id]
        for start in plan.starts:
            assert start.seq_id not in self.starts
            self.starts[start.seq_id] = start
            self.tables[start.seq_id] = (-1, [])
        for row in plan.rows:
            version, table = self.tables[row.seq_id]
            table = table + row.new_blocks if version == row.table_version else row.new_blocks
            self.tables[row.seq_id] = row.table_version, table

    def result_of(self, row: Row) -> RowResult:
        start = self.starts[row.seq_id]
        self.num_computed += len(row.tokens)
        seen = [self.slots[self._slot(row, p)] for p in range(row.end)]
        if start.tokens:
            known = min(row.end, len(start.tokens))
            assert seen[:known] == start.tokens[:known], "the cache holds somebody else's tokens"
        assert row.end >= start.num_known or not row.samples
        if row.samples:
            self.sampled[row.seq_id] = next_token(seen)
        return RowResult(
            [next_token(seen)] if row.samples else [],
            prompt_scores=[TokenLogprob(t, -1.0) for t in row.targets] if row.targets else None,
        )

    def _slot(self, row: Row, position: int) -> int:
        table = self.tables[row.seq_id][1]
        return table[position // self.block_size] * self.block_size + position % self.block_size


def make(num_blocks: int = 64, now: float | None = None, **options: object) -> Scheduler:
    config = EngineConfig(block_size=4, **{"max_seqs": 4, **options})  # type: ignore[arg-type]
    pool = BlockPool(num_blocks, config.block_size)
    clock = (lambda: now) if now is not None else (lambda: 0.0)
    return Scheduler(
        config,
        pool,
        context_length=CONTEXT,
        eos_token_ids=(EOS,),
        chunk=max(config.chunked_prefill, 0),
        now=clock,
    )


def add(scheduler: Scheduler, request_id: str, prompt: list[int], **params: object) -> None:
    request = Request(id=request_id, prompt_token_ids=prompt, params=SamplingParams(**params))  # type: ignore[arg-type]
    scheduler.add(request, lambda: open_text(None, request.params))


def drain(
    scheduler: Scheduler, runner: FakeRunner, most: int = 5000, overlap: bool = False
) -> dict[tuple[str, int], Output]:
    """Run until nothing is left; `overlap` plans a step before the one before it has landed."""
    results: dict[tuple[str, int], Output] = {}
    flights: list[tuple[StepPlan, StepResult]] = []
    for _ in range(most):
        if not scheduler.has_work:
            return results
        plan = scheduler.plan()
        flights.append((plan, runner.run(plan)))
        if overlap and len(flights) == 1 and plan.rows:
            continue
        for output in scheduler.commit(*flights.pop(0)):
            key = (output.request_id, output.index)
            if key in results:
                results[key].extend(output)
            else:
                results[key] = output
        scheduler.check_integrity()
    raise AssertionError("the scheduler does not get done")


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 22), min_size=1, max_size=24), st.integers(1, 20), st.integers(1, 3)
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(
    requests=REQUESTS,
    num_blocks=st.integers(12, 40),
    chunk=st.sampled_from([0, 1, 3, 7, 64]),
    batching=st.sampled_from(["continuous", "dynamic", "static"]),
    kv_cache=st.sampled_from(["on", "off"]),
    scores=st.booleans(),
    overlap=st.booleans(),
    looks_back=st.booleans(),
)
def test_every_request_gets_what_it_would_get_alone(
    requests: list[tuple[list[int], int, int]],
    num_blocks: int,
    chunk: int,
    batching: str,
    kv_cache: str,
    scores: bool,
    overlap: bool,
    looks_back: bool,
) -> None:
    overlap = overlap and kv_cache == "on"  # the switchboard has them as a conflict
    scheduler = make(num_blocks, chunked_prefill=chunk, batching=batching, kv_cache=kv_cache)
    scheduler.expects_more = False
    runner = FakeRunner(4)
    for number, (prompt, max_tokens, n) in enumerate(requests):
        add(
            scheduler,
            str(number),
            prompt,
            max_tokens=max_tokens,
            n=n,
            prompt_logprobs=0 if scores else None,
            presence_penalty=1.0 if looks_back else 0.0,
        )
    results = drain(scheduler, runner, overlap=overlap)
    assert len(results) == sum(n for _, _, n in requests)
    for number, (prompt, max_tokens, n) in enumerate(requests):
        for index in range(n):
            output = results[str(number), index]
            assert output.token_ids == expected(prompt, max_tokens)
            assert output.prompt_token_ids == prompt
            assert output.finish_reason == ("stop" if output.token_ids[-1] == EOS else "length")
            assert output.stats is not None
            assert output.stats.num_output_tokens == len(output.token_ids)
            if scores:
                known = output.prompt_logprobs
                assert known is not None
                assert [e and e.token_id for e in known] == [None, *prompt[1:]]
    assert scheduler.pool.num_used == 0


@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, steps=st.integers(0, 12), victim=st.integers(0, 7))
def test_abort_frees_everything_at_any_moment(
    requests: list[tuple[list[int], int, int]], steps: int, victim: int
) -> None:
    scheduler, runner = make(20), FakeRunner(4)
    for number, (prompt, max_tokens, n) in enumerate(requests):
        add(scheduler, str(number), prompt, max_tokens=max_tokens, n=n)
    for _ in range(steps):
        plan = scheduler.plan()
        result = runner.run(plan)
        scheduler.abort(str(victim))  # also while a step is under way
        scheduler.commit(plan, result)
        scheduler.check_integrity()
    for number in range(len(requests)):
        scheduler.abort(str(number))
    assert not scheduler.has_work
    assert scheduler.pool.num_used == 0


def test_answers_do_not_wait_for_a_long_prompt() -> None:
    scheduler, runner = make(chunked_prefill=4), FakeRunner(4)
    add(scheduler, "short", [1], max_tokens=12, ignore_eos=True)
    scheduler.commit(plan := scheduler.plan(), runner.run(plan))
    add(scheduler, "long", [2] * 32, max_tokens=1)
    for _ in range(8):
        plan = scheduler.plan()
        lengths = [len(row.tokens) for row in plan.rows]
        assert lengths == [1, 4]
        scheduler.commit(plan, runner.run(plan))


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    scheduler, runner = make(num_blocks=12, max_seqs=8), FakeRunner(4)
    for number in range(4):
        add(scheduler, f"s{number}", [1] * 8, max_tokens=8, ignore_eos=True)
    add(scheduler, "large", [2] * 40, max_tokens=4, ignore_eos=True)
    for arrival in range(100):
        add(scheduler, f"late{arrival}", [1] * 4, max_tokens=4, ignore_eos=True)
        plan = scheduler.plan()
        done = [o.request_id for o in scheduler.commit(plan, runner.run(plan)) if o.finish_reason]
        if "large" in done:
            return
    raise AssertionError("the large request never ran")


def test_the_prompt_is_computed_once_for_n_answers() -> None:
    scheduler, runner = make(), FakeRunner(4)
    add(scheduler, "a", [3] * 21, max_tokens=3, n=4, ignore_eos=True)
    drain(scheduler, runner)
    # 21 once, the last 1 of 21 (20 are whole blocks) for each of 3 siblings, 2 decode steps each.
    assert runner.num_computed == 21 + 3 * 1 + 4 * 2


def test_recompute_does_the_whole_prefix_for_each_token() -> None:
    scheduler, runner = make(kv_cache="off", chunked_prefill=0), FakeRunner(4)
    add(scheduler, "a", [3] * 5, max_tokens=4, ignore_eos=True)
    drain(scheduler, runner)
    assert runner.num_computed == 5 + 6 + 7 + 8


def test_static_batches_wait_until_full_and_run_to_the_end() -> None:
    scheduler, runner = make(batching="static", max_seqs=2), FakeRunner(4)
    add(scheduler, "a", [1], max_tokens=1)
    assert not scheduler.plan().rows
    add(scheduler, "b", [1], max_tokens=3, ignore_eos=True)
    add(scheduler, "c", [1], max_tokens=1)
    add(scheduler, "d", [1], max_tokens=1)
    order: list[list[str]] = []
    while scheduler.has_work:
        plan = scheduler.plan()
        order.append([o.request_id for o in scheduler.commit(plan, runner.run(plan))])
    assert order == [["a", "b"], ["b"], ["b"], ["c", "d"]]


def test_what_can_never_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        InputError, match=r"context length is 64 tokens.*prompt has 64 tokens"
    ) as refused:
        add(make(), "a", [1] * CONTEXT)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(
        InputError, match=r"maximum context length is 64 tokens.*60 more are asked for"
    ):
        add(make(), "a", [1] * 10, max_tokens=60)
    with pytest.raises(InputError, match=r"KV cache holds is 17 tokens"):
        add(make(num_blocks=4), "a", [1] * 10, max_tokens=8)
    with pytest.raises(InputError, match="empty"):
        add(make(), "a", [])


def test_a_request_that_just_fits_gets_done() -> None:
    scheduler, runner = make(num_blocks=4), FakeRunner(4)
    add(scheduler, "a", [1] * 10, max_tokens=7, ignore_eos=True)
    assert len(drain(scheduler, runner)["a", 0].token_ids) == 7


def test_without_max_tokens_the_context_is_the_limit() -> None:
    scheduler, runner = make(), FakeRunner(4)
    add(scheduler, "a", [1] * 10, ignore_eos=True)
    output = drain(scheduler, runner)["a", 0]
    assert (len(output.token_ids), output.finish_reason) == (CONTEXT - 10, "length")


def test_stop_token_ids_end_the_answer() -> None:
    prompt = [1, 2]
    answer = expected(prompt, 10)
    scheduler, runner = make(), FakeRunner(4)
    add(scheduler, "a", prompt, max_tokens=10, stop_token_ids=(answer[2],))
    output = drain(scheduler, runner)["a", 0]
    assert output.token_ids == answer[: answer.index(answer[2]) + 1]
    assert (output.finish_reason, output.stop_reason) == ("stop", answer[2])


def test_a_pretended_prefix_costs_one_row_and_takes_its_blocks() -> None:
    scheduler = make(num_blocks=8)
    add(scheduler, "long", list(range(20)), max_tokens=2)
    scheduler.pretend("long", 19)
    plan = scheduler.plan()
    assert [(row.start, len(row.tokens), row.samples) for row in plan.rows] == [(19, 1, True)]
    scheduler.check_integrity()
    scheduler.abort("long")
    assert scheduler.pool.num_used == 0


def test_nothing_is_pretended_where_nothing_is_kept() -> None:
    scheduler = make(num_blocks=8, kv_cache="off")
    add(scheduler, "long", list(range(20)), max_tokens=2)
    scheduler.pretend("long", 19)
    assert scheduler.plan().num_tokens == 20


class Broken(Exception):
    """A step failed."""


class FragileRunner(FakeRunner):
    """A step with one of the bad tokens in it fails as a whole, as a kernel does."""

    bad: frozenset[int] = frozenset()

    def run(self, plan: StepPlan) -> StepResult:
        if any(self.bad.intersection(row.tokens) for row in plan.rows):
            raise Broken
        return super().run(plan)


@settings(max_examples=60, deadline=None)
@given(
    requests=REQUESTS,
    bad=st.frozensets(st.integers(0, 22), max_size=2),
    num_blocks=st.integers(12, 40),
    chunk=st.sampled_from([0, 3]),
)
def test_a_failing_step_ends_only_who_is_at_fault(
    requests: list[tuple[list[int], int, int]], bad: frozenset[int], num_blocks: int, chunk: int
) -> None:
    scheduler = make(num_blocks, chunked_prefill=chunk)
    runner = FragileRunner(4)
    runner.bad = bad
    for number, (prompt, max_tokens, _) in enumerate(requests):
        add(scheduler, str(number), prompt, max_tokens=max_tokens)
    results: dict[str, Output] = {}
    for _ in range(5000):
        if not scheduler.has_work:
            break
        plan = scheduler.plan()
        assert plan.rows, "there is always somebody who can move on"
        try:
            outputs = scheduler.commit(plan, runner.run(plan))
        except Broken:
            runner = FragileRunner(4)
            runner.bad = bad
            outputs = scheduler.failed([plan], "a kernel failed")
        for output in outputs:
            results.setdefault(output.request_id, output)
            if results[output.request_id] is not output:
                results[output.request_id].extend(output)
        scheduler.check_integrity()
    assert not scheduler.has_work
    for number, (prompt, max_tokens, _) in enumerate(requests):
        answer, output = expected(prompt, max_tokens), results[str(number)]
        computed = [*prompt, *answer[:-1]]  # the last token is never computed
        if bad.isdisjoint(computed):
            assert output.token_ids == answer and output.finish_reason in ("stop", "length")
        else:
            assert (output.finish_reason, output.error) == ("error", "a kernel failed")
            assert output.token_ids == answer[: len(output.token_ids)], "what came before stays"


def test_a_step_that_fails_only_in_company_ends_after_a_few_tries() -> None:
    scheduler = make()
    add(scheduler, "a", [1], max_tokens=9, ignore_eos=True)
    add(scheduler, "b", [2], max_tokens=9, ignore_eos=True)
    runner, failures, outputs = FakeRunner(4), 0, []
    while scheduler.has_work:
        plan = scheduler.plan()
        if len(plan.rows) > 1:
            failures += 1
            runner = FakeRunner(4)
            outputs += scheduler.failed([plan], "too much")
        else:
            outputs += scheduler.commit(plan, runner.run(plan))
    assert failures == 3
    assert [o.finish_reason for o in outputs if o.finish_reason] == ["error", "error"]


def test_out_of_memory_halves_the_budget() -> None:
    scheduler, runner = make(), FakeRunner(4)
    add(scheduler, "a", [1] * 60, max_tokens=1)
    assert not scheduler.shrink(60), "as small as it gets"
    scheduler = make(num_blocks=100)
    scheduler.context_length = 400
    add(scheduler, "a", [1] * 300, max_tokens=1)
    sizes = []
    while scheduler.has_work:
        plan = scheduler.plan()
        sizes.append(plan.num_tokens)
        if plan.num_tokens > 128:
            assert scheduler.shrink(plan.num_tokens)
            scheduler.restart()
            runner = FakeRunner(4)
        else:
            scheduler.commit(plan, runner.run(plan))
    assert sizes == [300, 150, 75, 75, 75, 75]


def test_a_block_is_used_again_at_once_after_an_abort_in_flight() -> None:
    """The step of the aborted sequence is still running when its blocks are written anew."""
    scheduler, runner = make(num_blocks=4), FakeRunner(4)
    add(scheduler, "a", [1] * 10, max_tokens=4, ignore_eos=True)
    flying = scheduler.plan()
    result = runner.run(flying)
    scheduler.abort("a")
    add(scheduler, "b", [2] * 10, max_tokens=4, ignore_eos=True)
    plan = scheduler.plan()
    assert plan.left == [flying.rows[0].seq_id]
    assert set(plan.rows[0].new_blocks) & set(flying.rows[0].new_blocks)
    found = runner.run(plan)
    assert scheduler.commit(flying, result) == []
    first = scheduler.commit(plan, found)[0].token_ids
    assert first + drain(scheduler, runner)["b", 0].token_ids == [
        *expected_without_end([2] * 10, 4)
    ]


def expected_without_end(prompt: list[int], num: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(num):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]
