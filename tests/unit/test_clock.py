"""What borders cost can be told from three recordings of the same graph, and is taken out again."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from pellucid.runner.borders import NO_STAGE, time_of_stages
from pellucid.runner.clock import (
    EVEN,
    LEFT_OUT,
    ODD,
    PATTERNS,
    EventClock,
    GraphTimes,
    Recording,
)

STAGES = ("qkv", "attention", "mlp")

kernel_ns = st.floats(1e3, 1e6)
border_ns = st.floats(0, 2e4)
laps = st.lists(st.tuples(kernel_ns, border_ns, st.sampled_from(STAGES)), min_size=1, max_size=60)
"""Time of each lap's kernels, cost of the border behind them, stage."""


def recorded(pattern: str, given: list[tuple[float, float, str]]) -> tuple[Recording, list[float]]:
    """A recording of laps, and the times that its replay would show."""
    recording, times, open_ns = Recording(pattern), [], 0.0
    for number, (time, cost, stage) in enumerate(given, 1):
        recording.stages.append(stage)
        open_ns += time
        if number == len(given):
            times.append(open_ns)  # the end parts nothing
        elif recording.has_border():
            # The laps beside a border show its cost in whatever parts: here a third before it.
            times.append(open_ns + cost / 3)
            open_ns = 2 * cost / 3
    return recording, times


def replayed(recording: Recording, times: list[float], num_replays: int) -> None:
    """As if the recording had been replayed and read."""
    starts = [Moment(at) for at in accumulate(times, initial=0.0)]
    recording.events = starts  # type: ignore[assignment]
    recording.num_replays, recording.is_read = num_replays, False


class Moment:
    """An event that has been put down."""

    def __init__(self, ns: float) -> None:
        self.ns = ns

    def elapsed_time(self, later: Moment) -> float:
        return (later.ns - self.ns) / 1e6


def graph_of(given: list[tuple[float, float, str]], counts: tuple[int, ...]) -> GraphTimes:
    graph = GraphTimes()
    for pattern, count in zip(PATTERNS, counts, strict=True):
        recording, times = recorded(pattern, given)
        graph.recordings.append(recording)
        if count:
            replayed(recording, times, count)
    graph.read()
    return graph


@given(laps, st.permutations(range(3)))
def test_recordings_may_be_read_one_at_a_time(
    given: list[tuple[float, float, str]], order: list[int]
) -> None:
    """As where a run is a single step: what borders cost is known once all three were replayed."""
    graph, times = GraphTimes(), {}
    for pattern in PATTERNS:
        recording, times[pattern] = recorded(pattern, given)
        graph.recordings.append(recording)
    for which in order:
        graph.forget()
        recording = graph.recordings[which]
        replayed(recording, times[recording.pattern], 1)
        graph.read()
    assert sum(ns for _, ns in graph.laps()) == pytest.approx(sum(t for t, _, _ in given))


@given(laps, st.integers(1, 5))
def test_borders_leave_no_trace_in_the_sum(given: list[tuple[float, float, str]], n: int) -> None:
    graph = graph_of(given, (n, n, n))
    assert sum(ns for _, ns in graph.laps()) == pytest.approx(3 * n * sum(t for t, _, _ in given))


@given(laps)
def test_each_lap_pays_half_of_the_borders_beside_it(given: list[tuple[float, float, str]]) -> None:
    costs = [0.0, *(cost for _, cost, _ in given[:-1]), 0.0]
    want = dict.fromkeys(STAGES, 0.0)
    for (time, _, stage), (before, behind) in zip(given, pairwise(costs), strict=True):
        want[stage] += time + (2 / 3 - 1 / 2) * before + (1 / 3 - 1 / 2) * behind
    found = dict.fromkeys(STAGES, 0.0)
    for stage, ns in graph_of(given, (1, 1, 1)).laps():
        found[stage] += ns / 3
    assert found == pytest.approx(want, abs=1.0)


def test_nothing_is_taken_out_before_all_recordings_were_replayed() -> None:
    given = [(1e4, 4e3, "qkv"), (2e4, 6e3, "attention"), (3e4, 0.0, "mlp")]
    assert sum(ns for _, ns in graph_of(given, (1, 0, 0)).laps()) == pytest.approx(7e4)


def test_what_borders_cost_stays_known() -> None:
    given = [(1e4, 4e3, "qkv"), (2e4, 6e3, "attention"), (3e4, 0.0, "mlp")]
    graph = graph_of(given, (1, 1, 1))
    graph.forget()
    assert not list(graph.laps()), "nothing was replayed since"
    replayed(graph.recordings[1], recorded(ODD, given)[1], 3)
    graph.read()
    assert sum(ns for _, ns in graph.laps()) == pytest.approx(3 * 6e4), "as it was the last time"
    graph.forget()
    full, times = recorded(PATTERNS[0], given)
    replayed(graph.recordings[0], times, 2)
    graph.read()
    assert sum(ns for _, ns in graph.laps()) == pytest.approx(2 * 6e4)
    assert full.stages == ["qkv", "attention", "mlp"]


@pytest.mark.parametrize("num_laps", range(1, 7))
def test_each_border_is_left_out_once(num_laps: int) -> None:
    kept = Counter[int]()
    for pattern in (ODD, EVEN):
        recording = Recording(pattern)
        for number in range(1, num_laps + 1):
            recording.stages.append("mlp")
            kept[number] += recording.has_border()
    assert set(kept.values()) == {1}


LAYER = ("norm", "qkv", "kv_write", "attention", "o_proj", "norm", "mlp")
AROUND = ("prepare", "embed"), ("norm", "lm_head", "sample")

times_of_stages = st.fixed_dictionaries(
    dict.fromkeys(sorted({*LAYER, *AROUND[0], *AROUND[1]}), kernel_ns)
)


def put_down(stages: list[str], times: dict[str, float], cost: float) -> list[float | None]:
    """Laps of these stages, each border costing the lap before it so much, some left out."""
    laps: list[float | None] = []
    open_ns, countdown = 0.0, LEFT_OUT
    for number, stage in enumerate(stages):
        open_ns, countdown = open_ns + times[stage], countdown - 1
        if countdown > 0 or stage not in stages[:number]:
            laps.append(open_ns + cost)
            open_ns = 0.0
        else:
            laps.append(None)
            countdown = LEFT_OUT
    return laps


@given(times_of_stages, border_ns, st.integers(8, 40))
def test_laps_are_what_they_were_without_borders(
    times: dict[str, float], cost: float, num_layers: int
) -> None:
    stages = [*AROUND[0], *LAYER * num_layers, *AROUND[1]]
    laps = put_down(stages, times, cost)
    found, want = time_of_stages(stages, laps), Counter(stages)
    assert sum(found.values()) == pytest.approx(sum(times[s] * n for s, n in want.items()))
    left_out = laps.count(None)
    assert left_out > 0.8 * len(stages) / LEFT_OUT
    for stage, count in want.items():
        # Where a lap was joined to another, the two share its time as they usually do.
        assert found[stage] == pytest.approx(times[stage] * count, abs=left_out * cost + 1)


def test_the_time_of_a_graph_is_no_stage() -> None:
    stages = ["prepare", "host_gap", NO_STAGE, "sample"]
    found = time_of_stages(stages, [5.0, 2.0, 700.0, 3.0])
    assert found == {"prepare": 5.0, "host_gap": 2.0, "sample": 3.0}


def test_stages_that_are_not_known_apart_lose_no_time() -> None:
    assert sum(time_of_stages(["draft", "verify"], [None, 8.0]).values()) == 8.0
    found = time_of_stages(["mlp", "mlp", "verify"], [3.0, None, 8.0])
    assert found == {"mlp": 6.0, "verify": 5.0}
    found = time_of_stages(["mlp", "draft", "mlp"], [3.0, None, 8.0])
    assert found == {"mlp": 6.0, "draft": 5.0}


class Device:
    """One that does nothing but take time: for work, and for putting down an event."""

    def __init__(self) -> None:
        self.now = 0

    def work(self, ns: int, stage: str) -> None:
        self.now += ns
        self.clock.lap(stage)

    clock: EventClock


EVENT_NS = 700


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()

    class Event:
        def __init__(self, enable_timing: bool, external: bool = False) -> None:
            self.ns = 0

        def record(self, stream: object = None) -> None:
            self.ns, device.now = device.now, device.now + EVENT_NS

        def elapsed_time(self, later: Event) -> float:
            return (later.ns - self.ns) / 1e6

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    device.clock = EventClock(torch.device("cuda"))
    return device


def test_the_clock_sees_the_work_and_not_its_own_events(device: Device) -> None:
    for _ in range(2):
        device.clock.restart()
        device.work(50_000, "prepare")
        for _ in range(3 * LEFT_OUT):
            device.work(4_000, "qkv")
            device.work(9_000, "mlp")
        device.clock.settle()
        want = {"prepare": 50_000, "qkv": 27 * 4_000, "mlp": 27 * 9_000}
        assert device.clock.ns == pytest.approx(want, abs=6 * EVENT_NS)
        assert sum(device.clock.ns.values()) == pytest.approx(sum(want.values()), abs=5)


def test_host_stages_keep_their_borders(device: Device) -> None:
    """They are not alike from one time to the next, so nothing could tell them apart."""
    device.clock.restart()
    for number in range(1, 4 * LEFT_OUT):
        device.work(1_000 * number, "schedule")
        device.work(70, "detokenize")
    device.clock.settle()
    laps = 4 * LEFT_OUT - 1
    seen = {"schedule": 1_000 * laps * (laps + 1) // 2, "detokenize": 70 * laps}
    assert device.clock.ns == {stage: ns + laps * EVENT_NS for stage, ns in seen.items()}


def test_a_border_left_out_at_the_end_loses_no_time(device: Device) -> None:
    for num_laps in range(LEFT_OUT, 3 * LEFT_OUT):
        device.clock.restart()
        for _ in range(num_laps):
            device.work(5_000, "mlp")
        device.clock.settle()
        assert device.clock.ns["mlp"] == pytest.approx(num_laps * 5_000, abs=num_laps * EVENT_NS)
        assert device.clock.ns["mlp"] > num_laps * 4_999


def test_the_time_of_a_graph_is_that_of_its_recording(device: Device) -> None:
    clock, recordings = device.clock, []
    for pattern in clock.patterns:
        with clock.recording(pattern) as recording:
            for stage in ("qkv", "attention", "mlp"):
                clock.lap(stage)
        recordings.append(recording)
    assert [len(recording.events) for recording in recordings] == [4, 3, 3]
    clock.restart()
    for recording in 2 * recordings:
        device.work(20_000, "prepare")
        clock.before_replay(recording)
        for number, event in enumerate(recording.events):
            event.ns = number * 1_000_000  # type: ignore[attr-defined]
        device.now += 3_000_000
        clock.after_replay(recording)
    clock.settle()
    # Two of three borders are left out and the laps beside are joined: each cost a million.
    assert sum(clock.ns[stage] for stage in ("qkv", "attention", "mlp")) == 6 * 1_000_000
    assert clock.ns["prepare"] < 150_000, "the graph's own time is no lap"


def test_a_border_left_out_tells_what_all_of_them_cost() -> None:
    """The example of `time_of_stages`."""
    found = time_of_stages(["norm", "qkv", "norm", "qkv"], [10.0, 30.0, None, 36.0])
    assert found == {"norm": 6 + 8, "qkv": 26 + 24}
