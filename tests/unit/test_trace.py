"""Events against the block manager itself: replayed, they give its ownership at every one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from test_scheduler import REQUESTS, FakeRunner, add, make

from pellucid import LLM, SamplingParams
from pellucid.events import Admitted, Left, Planned, PoolState, StepEvent, Waits
from pellucid.owners import Inconsistent, Owners
from pellucid.request import Request, StepPlan, StepResult
from pellucid.scheduler import Scheduler
from pellucid.trace import NullTrace, StepTrace, pool_state


def state_of(scheduler: Scheduler, last_id: int = 0) -> PoolState:
    return pool_state(scheduler.pool, scheduler.running, scheduler.waiting, last_id=last_id)


class Replay:
    """A traced scheduler, and what its events say of it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.owners = Owners(state_of(scheduler))
        scheduler.trace = StepTrace(state_of(scheduler))
        self.events: list[StepEvent] = []

    def check(self) -> None:
        """Close an event here, send it through its encoding, and compare all there is."""
        self.scheduler.trace.close()
        events, dropped = self.scheduler.trace.take()
        assert not dropped and len(events) <= 1
        for event in events:
            sent = msgspec.json.decode(msgspec.json.encode(event), type=StepEvent)
            assert sent == event
            self.owners.apply(sent)
        self.events += events
        same_as(self.owners, self.scheduler)

    def happened(self, kind: type) -> list[Any]:
        return [each for event in self.events for each in event.happened if isinstance(each, kind)]


def same_as(owners: Owners, scheduler: Scheduler) -> None:
    """The block manager's own tables and counts, and the sequences around them."""
    pool = scheduler.pool
    tables = {s.number: s.table.blocks for s in (*scheduler.running, *scheduler.waiting)}
    assert {number: s.blocks for number, s in owners.sequences.items()} == tables
    counts = {b: pool.references(b) for b in range(pool.num_blocks) if pool.references(b)}
    assert owners.refs == Counter(counts)
    told = {n: (s.state, s.num_tokens, s.computed) for n, s in owners.sequences.items()}
    assert told == {
        s.number: (state, len(s.answer.tokens), s.computed)
        for state, several in (("running", scheduler.running), ("waiting", scheduler.waiting))
        for s in several
    }


@settings(max_examples=150, deadline=None)
@given(
    requests=REQUESTS,
    num_blocks=st.integers(12, 40),
    chunk=st.sampled_from([0, 1, 3, 7]),
    batching=st.sampled_from(["continuous", "static"]),
    kv_cache=st.sampled_from(["on", "off"]),
    overlap=st.booleans(),
    begin=st.integers(0, 6),
    aborts=st.dictionaries(st.integers(0, 40), st.integers(0, 7), max_size=4),
    restarts=st.frozensets(st.integers(0, 40), max_size=2),
    failures=st.frozensets(st.integers(0, 40), max_size=2),
    halfway=st.booleans(),
)
def test_replayed_events_are_the_block_manager(
    requests: list[tuple[list[int], int, int]],
    num_blocks: int,
    chunk: int,
    batching: str,
    kv_cache: str,
    overlap: bool,
    begin: int,
    aborts: dict[int, int],
    restarts: frozenset[int],
    failures: frozenset[int],
    halfway: bool,
) -> None:
    """Whatever happens, from whichever step on somebody watches, and wherever an event ends."""
    overlap = overlap and kv_cache == "on"
    scheduler = make(num_blocks, chunked_prefill=chunk, batching=batching, kv_cache=kv_cache)
    scheduler.expects_more = False
    runner = FakeRunner(4)
    replay: Replay | None = None
    flights: list[tuple[StepPlan, StepResult]] = []
    for number, (prompt, max_tokens, n) in enumerate(requests):
        add(scheduler, str(number), prompt, max_tokens=max_tokens, n=n)
    for step in range(300):
        if step == begin:
            replay = Replay(scheduler)
            same_as(replay.owners, scheduler)
        if step in aborts:
            scheduler.abort(str(aborts[step]))
        if step in restarts:
            while flights:
                scheduler.commit(*flights.pop(0))
            scheduler.restart()
            runner = FakeRunner(4)
        if not scheduler.has_work:
            break
        plan = scheduler.plan()
        if replay and halfway:
            replay.check()
        if plan.rows:
            flights.append((plan, runner.run(plan)))
        if step in failures and flights:
            scheduler.failed([lost for lost, _ in flights], "a kernel failed")
            flights.clear()
            runner = FakeRunner(4)
        elif len(flights) > overlap or (flights and not plan.rows):
            scheduler.commit(*flights.pop(0))
        if replay:
            replay.check()
    if replay:
        replay.check()
    if replay and not scheduler.has_work:
        assert not replay.owners.sequences and not replay.owners.refs


def test_a_step_is_told_in_its_order() -> None:
    scheduler, runner = make(num_blocks=6), FakeRunner(4)
    replay = Replay(scheduler)
    add(scheduler, "a", [1] * 7, max_tokens=6, ignore_eos=True, n=2)
    scheduler.commit(plan := scheduler.plan(), runner.run(plan))
    replay.check()
    (first,) = replay.events
    assert first.step == 1 and first.id == 1
    assert first.waits == [Waits(2, "sibling")]
    assert msgspec.to_builtins(first.happened) == [
        {"type": "queued", "sequence": 1, "request": "a", "index": 0, "num_tokens": 7},
        {"type": "queued", "sequence": 2, "request": "a", "index": 1, "num_tokens": 7},
        {"type": "admitted", "sequence": 1, "shared": [], "refs": [], "num_computed": 0},
        {"type": "planned", "sequence": 1, "request": "a", "start": 0, "num_tokens": 7,
         "samples": True, "blocks": [0, 1]},
        {"type": "landed", "sequence": 1, "num_tokens": 1},
    ]  # fmt: skip
    scheduler.commit(plan := scheduler.plan(), runner.run(plan))
    replay.check()
    assert replay.happened(Admitted)[1] == Admitted(2, shared=[0], refs=[2], num_computed=4)
    assert replay.happened(Planned)[2] == Planned(2, "a", 4, 3, True, [2])


def test_whoever_gives_way_says_why_and_what() -> None:
    scheduler, runner = make(num_blocks=4), FakeRunner(4)
    replay = Replay(scheduler)
    for name in "ab":
        add(scheduler, name, [1] * 7, max_tokens=6, ignore_eos=True)
    while scheduler.has_work:
        scheduler.commit(plan := scheduler.plan(), runner.run(plan))
        replay.check()
    assert [(left.sequence, left.why) for left in replay.happened(Left)] == [
        (2, "preempted"), (1, "finished"), (2, "finished")
    ]  # fmt: skip
    assert replay.happened(Left)[0].blocks == [2, 3]
    waits = [wait for event in replay.events for wait in event.waits]
    assert waits and set(waits) == {Waits(2, "blocks")}


def test_why_somebody_waits_is_said_once() -> None:
    """A step in which nothing happens and nothing changes is no event."""
    scheduler = make(batching="static", max_seqs=2)
    replay = Replay(scheduler)
    add(scheduler, "a", [1], max_tokens=1)
    for _ in range(5):
        scheduler.plan()
        replay.check()
    assert [event.waits for event in replay.events] == [[Waits(1, "batch")]]
    assert replay.events[0].step == 0, "nothing was launched"


def test_a_full_batch_is_a_reason_to_wait() -> None:
    scheduler = make(max_seqs=1)
    replay = Replay(scheduler)
    for name in "ab":
        add(scheduler, name, [1] * 7, max_tokens=6)
    scheduler.plan()
    replay.check()
    assert replay.events[0].waits == [Waits(2, "rows")]


def test_recomputing_forgets_and_keeps_its_blocks() -> None:
    scheduler, runner = make(kv_cache="off", chunked_prefill=0), FakeRunner(4)
    replay = Replay(scheduler)
    add(scheduler, "a", [3] * 5, max_tokens=4, ignore_eos=True)
    while scheduler.has_work:
        scheduler.commit(plan := scheduler.plan(), runner.run(plan))
        replay.check()
        for sequence in replay.owners.sequences.values():
            assert sequence.computed == 0 < sequence.reached and sequence.blocks
    assert [(row.start, row.num_tokens) for row in replay.happened(Planned)] == [
        (0, 5), (0, 6), (0, 7), (0, 8)
    ]  # fmt: skip


def test_memory_is_bounded_and_what_was_lost_is_counted() -> None:
    scheduler, runner = make(), FakeRunner(4)
    state = state_of(scheduler)
    scheduler.trace = trace = StepTrace(state, most=4)
    add(scheduler, "a", [3], max_tokens=12, ignore_eos=True)
    while scheduler.has_work:
        scheduler.commit(plan := scheduler.plan(), runner.run(plan))
        trace.close()
    events, dropped = trace.take()
    assert [event.id for event in events] == [9, 10, 11, 12] and dropped == 8
    assert trace.take() == ((), 0)
    with pytest.raises(Inconsistent, match="event 9 follows event 0"):
        Owners(state).apply(events[0])


def test_a_stream_with_a_hole_is_noticed() -> None:
    scheduler = make()
    add(scheduler, "a", [3] * 9, max_tokens=12)
    state = state_of(scheduler)

    def event(*happened: Any) -> StepEvent:
        return StepEvent(id=1, step=1, ns=0, happened=list(happened))

    for bad, why in (
        (event(Planned(7, "x", 0, 1, True, [])), "nothing is known of sequence 7"),
        (event(Admitted(1, [5], [2], 4)), "block 5 is free"),
        (event(Left(1, "aborted", [5])), r"gives back \[5\] and held \[\]"),
        (event(*[Planned(1, "a", 0, 1, True, [5])] * 2), "handed out and was not free"),
    ):
        with pytest.raises(Inconsistent, match=why):
            Owners(state).apply(bad)


def test_off_writes_nothing_and_keeps_the_count() -> None:
    scheduler, runner = make(), FakeRunner(4)
    add(scheduler, "a", [3], max_tokens=12)
    scheduler.trace = NullTrace(last_id=7, step=5)
    scheduler.commit(plan := scheduler.plan(), runner.run(plan))
    scheduler.trace.close()
    assert scheduler.trace.take() == ((), 0)
    assert (scheduler.trace.last_id, scheduler.trace.step) == (7, 5)


@pytest.mark.parametrize("options", [{}, {"kv_cache": "off"}, {"overlap": "on"}], ids=str)
def test_two_hundred_steps_of_the_real_engine(options: dict[str, Any], tiny_folder: Path) -> None:
    """A small pool, so that sequences are preempted; some share, some are aborted, a switch is
    changed, and the watcher leaves and comes back."""
    llm = LLM(
        str(tiny_folder), load_format="dummy", device="cpu", dtype="float32", num_blocks=14,
        block_size=8, max_seqs=6, **options,
    )  # fmt: skip
    engine = llm.engine
    owners = Owners(engine.watch())
    num_steps = num_requests = 0
    kinds: Counter[str] = Counter()
    while num_steps < 200:
        while len(engine.scheduler.waiting) < 3:
            num_requests += 1
            params = SamplingParams(
                temperature=0, ignore_eos=True, max_tokens=10 + num_requests % 17,
                n=1 + num_requests % 3,
            )  # fmt: skip
            prompt = [5 + num_requests % 50] * (3 + num_requests * 7 % 23)
            engine.add(Request(id=str(num_requests), prompt_token_ids=prompt, params=params))
        if num_steps % 29 == 28:
            engine.abort(str(num_requests - 3))
        if num_steps == 90:
            engine.switch(attention="naive")
        if num_steps == 120:
            engine.unwatch()
            engine.step()
            owners = Owners(engine.watch())
        engine.step()
        num_steps += 1
        events, dropped = engine.trace.take()
        assert not dropped
        for event in events:
            owners.apply(event)
            kinds.update(each.why for each in event.happened if isinstance(each, Left))
            kinds["shared"] += any(isinstance(e, Admitted) and e.shared for e in event.happened)
        same_as(owners, engine.scheduler)
    assert all(kinds[why] for why in ("preempted", "finished", "aborted", "restarted"))
    assert bool(kinds["shared"]) == (options.get("kv_cache") != "off")
    assert owners.step == engine.trace.step >= 195, "a switch lands steps and launches none"
