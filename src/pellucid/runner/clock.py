"""A clock for devices that run behind the host's back.

Problem: a lap on a GPU is an event put into the stream, which gets its time when the work before it
is done; inside a captured graph an *external* event does the same at every replay. But events are
not free. Between launches made one by one, a border costs the host as long as putting down the
event takes. Between two kernels of a graph it costs the device several microseconds (about 5 on an
H100), because it parts kernels that would otherwise have begun before the one before had ended.

Idea: leave borders out. That makes one lap of the two beside it, and this lap is shorter than both
together by what the border costs; which is then taken out of all laps.

* Outside of graphs every ninth border is left out. The same stages come layer after layer, so that
  the layer before tells what the two laps would have taken. The mean of the differences counts, for
  it is sums that have to be right, and a few of the dearest borders make a good part of them; but
  the utmost are no borders, they are the machine doing something else.
* Each graph is recorded three times: with all borders, without every first of two, and without
  every second. The three are replayed in turn.

        all     ├─ a ─┼─ b ─┼─ c ─┼─ d ─┤
        odd     ├─────────ab┼─────────cd┤      cost of the border a|b = a + b - ab
        even    ├─ a ─┼─────────bc┼─ d ─┤      cost of the border b|c = b + c - bc

  Both laps beside it pay half.

Neither looks at the plain run. So the stages and the plain run's wall time are found independently,
and how well they agree (the closure) says how far to trust them.

Trade-off: an event must be read before the next replay moves it, and reading hundreds of them takes
the host longer than the graph takes the device. So only the last replay of each recording is read,
when the clock settles, and stands for all since the time before.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch

from pellucid.stages import HOST_STAGES, Clock, WallClock

LEFT_OUT = 9
"""Of so many borders outside of graphs, one is left out. A layer has five or seven, so that in the
layers of a model each gets its turn."""

UTMOST = 0.05
"""Part of the differences on either side that is taken for no border's cost."""

NOBODY = ""
"""The stage of a lap whose time is no stage's."""

ALL, ODD, EVEN = "all", "odd", "even"
PATTERNS = (ALL, ODD, EVEN)
"""Which borders a recording has: all, or all but the first, third, … or the second, fourth, …"""


@dataclass(slots=True, eq=False)
class Recording:
    """The borders of one captured graph, and what its last replay has shown."""

    pattern: str
    stages: list[str] = field(default_factory=list)
    """At the end of which stage each lap of the graph stands, left out or not."""
    events: list[torch.cuda.Event] = field(default_factory=list)
    """The first stands before the first stage."""
    num_replays: int = 0
    is_read: bool = True
    """Whether the last replay has been read."""
    is_news: bool = False
    """Whether it was read since what borders cost was last found."""
    times: list[float] = field(default_factory=list)
    """Nanoseconds between its borders in the last replay that was read."""

    def has_border(self) -> bool:
        """Whether there is one behind the latest of `stages`. The graph's end always has one: it
        stands behind the last kernel and parts nothing."""
        odd = len(self.stages) % 2 == 1
        return self.pattern == ALL or odd == (self.pattern == EVEN)

    def read(self) -> None:
        """Take down the last replay's times, which must have ended."""
        if not self.is_read:
            self.times = [a.elapsed_time(b) * 1e6 for a, b in pairwise(self.events)]
            self.is_read = self.is_news = True

    def forget(self) -> None:
        self.num_replays = 0


class RunClock(Clock, Protocol):
    """A clock that knows about graphs."""

    patterns: tuple[str, ...]
    """A graph is recorded once for each."""

    @contextmanager
    def recording(self, pattern: str) -> Iterator[Recording]:
        """Laps inside belong to the graph that is being captured."""
        yield Recording(pattern)

    def before_replay(self, recording: Recording) -> None:
        return

    def after_replay(self, recording: Recording) -> None:
        return


class TimingClock(Clock, Protocol):
    """A clock that can be read."""

    ns: dict[str, int]
    """Nanoseconds by stage, up to date after `settle`."""

    def settle(self) -> None:
        """Wait for what is still running, and add it up."""

    def restart(self) -> None:
        """Forget everything so far and start at zero."""


def make_clock(device: torch.device) -> TimingClock:
    """The clock that can see the stages of this device."""
    return EventClock(device) if device.type == "cuda" else WallClock()


class UntimedGraphs(RunClock):
    """A clock of the host, for a runner with graphs: they get no borders."""

    patterns = ("none",)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def lap(self, stage: str) -> None:
        self._clock.lap(stage)


class EventClock(RunClock):
    """Adds up the device's time between borders, in nanoseconds per stage."""

    patterns = PATTERNS

    def __init__(self, device: torch.device) -> None:
        self.ns: dict[str, int] = {}
        self._device = device
        self._inside: Recording | None = None
        self._stages: list[str] = []
        self._open: list[torch.cuda.Event | None] = []
        self._times: list[float | None] = []
        self._spare: list[torch.cuda.Event] = []
        self._countdown = LEFT_OUT
        self._graphs: list[GraphTimes] = []
        self._last: torch.cuda.Event
        self._forget()

    def lap(self, stage: str) -> None:
        """Short, for what it takes the host beside the event itself is not seen. Two lists that
        grow and no object for each lap: objects call the garbage collector."""
        if self._inside is not None:
            self._inside.stages.append(stage)
            if self._inside.has_border():
                self._inside.events.append(external_event())
            return
        event = None
        self._countdown -= 1
        # Only where stages come again and again, alike: of others there would be nothing to tell
        # what they take alone.
        if self._countdown > 0 or stage in HOST_STAGES or stage not in self._stages:
            event = self._event()
        else:
            self._countdown = LEFT_OUT
        self._stages.append(stage)
        self._open.append(event)

    def settle(self) -> None:
        """Wait for the device and add up what is open. Call it before reading `ns`."""
        if self._open and self._open[-1] is None:
            self._mark(NOBODY)
        torch.cuda.synchronize(self._device)
        for graph in self._graphs:
            graph.read()
        for event in self._open:
            if event is None:
                self._times.append(None)
                continue
            self._times.append(self._last.elapsed_time(event) * 1e6)
            self._spare.append(self._last)
            self._last = event
        self._open.clear()
        totals = defaultdict(float, time_of_stages(self._stages, self._times))
        for graph in self._graphs:
            for stage, ns in graph.laps():
                totals[stage] += ns
        self.ns = {stage: max(0, round(total)) for stage, total in totals.items()}

    def restart(self) -> None:
        """Forget everything so far and start at zero."""
        self.settle()
        self._spare.append(self._last)
        self._forget()

    @contextmanager
    def recording(self, pattern: str) -> Iterator[Recording]:
        self._inside = recording = Recording(pattern)
        recording.events.append(external_event())
        try:
            yield recording
            if not recording.has_border():
                recording.events.append(external_event())
        finally:
            self._inside = None
        if pattern == PATTERNS[0]:
            self._graphs.append(GraphTimes())
        self._graphs[-1].recordings.append(recording)

    def before_replay(self, recording: Recording) -> None:
        """Until here the device had nothing to do."""
        self._mark("host_gap")

    def after_replay(self, recording: Recording) -> None:
        """The graph's own time belongs to its recording, so the next lap begins here."""
        recording.num_replays += 1
        recording.is_read = False
        self._mark(NOBODY)

    def _forget(self) -> None:
        self._stages.clear()
        self._times.clear()
        self._countdown = LEFT_OUT
        for graph in self._graphs:
            graph.forget()
        self._stream = torch.cuda.current_stream(self._device)
        self._last = self._event()
        self.ns = {}

    def _mark(self, stage: str) -> None:
        """A lap that has its border in any case."""
        self._stages.append(stage)
        self._open.append(self._event())

    def _event(self) -> torch.cuda.Event:
        """An event put down now. To make one costs the host more than to put it down, and so does
        asking for the stream; both would show where the host is what the device waits for."""
        event = self._spare.pop() if self._spare else torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event


def time_of_stages(stages: Sequence[str], times: Sequence[float | None]) -> dict[str, float]:
    """What each stage took outside of graphs, what borders cost taken out, in the times' unit.

    stages: one for each lap, `NOBODY` if its time counts for none. times: from the border before to
    the one behind; None where that was left out, and the next lap's time is that of both.
    """
    alone: dict[str, list[float]] = defaultdict(list)
    joined: list[tuple[str, str, float]] = []
    costs, before = [], ""
    for stage, time in zip(stages, times, strict=True):
        if time is None:
            before = stage
        elif before:
            joined.append((before, stage, time))
            if alone[before] and alone[stage]:
                costs.append(alone[before][-1] + alone[stage][-1] - time)
            before = ""
        elif stage != NOBODY:
            alone[stage].append(time)
    cost = max(0.0, trimmed_mean(costs))
    usual = {stage: statistics.median(laps) for stage, laps in alone.items() if laps}
    totals = {stage: sum(laps) - cost * len(laps) for stage, laps in alone.items()}
    for a, b, time in joined:
        first = part_of(time - cost, usual.get(a), usual.get(b), cost)
        totals[a] = totals.get(a, 0.0) + first
        totals[b] = totals.get(b, 0.0) + time - cost - first
    totals.pop(NOBODY, None)
    return totals


def part_of(both: float, a: float | None, b: float | None, cost: float) -> float:
    """Of the time of two laps without a border between them, that of the first.

    a, b: what they usually take with a border, None if that is not known: the time is shared out as
    usual, and what is only one of them takes, the other one does not.
    """
    if a is not None and b is not None:
        return both * a / max(1e-9, a + b)
    if b is not None:
        return max(0.0, both - max(0.0, b - cost))
    return both if a is None else min(both, max(0.0, a - cost))


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the `UTMOST` smallest and largest; 0 if there are none."""
    ranked, cut = sorted(values), int(UTMOST * len(values))
    return statistics.fmean(ranked[cut : len(ranked) - cut] or [0.0])


class GraphTimes:
    """The recordings of one graph, and what each of its borders costs."""

    def __init__(self) -> None:
        self.recordings: list[Recording] = []
        self._costs: list[float] = []

    def read(self) -> None:
        """Take down the last replay of each. They show what borders cost once all were replayed; by
        themselves they show it roughly, but what they show is right on average."""
        for recording in self.recordings:
            recording.read()
        if all(recording.is_news for recording in self.recordings):
            self._costs = border_costs(*(recording.times for recording in self.recordings))
            for recording in self.recordings:
                recording.is_news = False

    def laps(self) -> Iterator[tuple[str, float]]:
        """Each stage of the graph and its nanoseconds in all replays since the last `forget`."""
        full = self.recordings[0]
        count = sum(recording.num_replays for recording in self.recordings)
        if not full.times or not count:
            return
        costs = self._costs or [0.0] * (len(full.times) - 1)
        halves = [0.0, *(cost / 2 for cost in costs), 0.0]
        for stage, time, beside in zip(full.stages, full.times, pairwise(halves), strict=True):
            yield stage, count * (time - sum(beside))

    def forget(self) -> None:
        """Start at zero; what was read stays known until the next is."""
        for recording in self.recordings:
            recording.forget()


def external_event() -> torch.cuda.Event:
    """An event in the graph that is being captured."""
    event = torch.cuda.Event(enable_timing=True, external=True)
    event.record()
    return event


def border_costs(full: Sequence[float], odd: Sequence[float], even: Sequence[float]) -> list[float]:
    """What each border between two laps of a graph adds to them, in the times' unit.

    full: the laps with all borders; odd, even: those without every first of two borders, without
    every second. One cost fewer than `full` has laps.
    """
    costs = []
    for index, (a, b) in enumerate(pairwise(full)):
        merged = odd[index // 2] if index % 2 == 0 else even[(index + 1) // 2]
        costs.append(a + b - merged)
    return costs
