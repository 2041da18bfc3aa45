"""A clock for devices that work while the host goes on.

Problem: on a GPU a lap is an event in the stream, which gets its time when the work before it has
ended; in a captured graph an *external* event gets a new time at every replay. Events cost time
themselves. Between kernels launched one by one, a border costs the host the call that records the
event. Between two kernels of a graph it costs the device several microseconds (about 5 on an H100),
because it separates kernels that would otherwise overlap: the second one starts early.

Idea: leave some borders out. The lap across a missing border is shorter than the two laps together
by what the border costs; `borders.py` computes the cost from that and takes it out of all laps.

* Outside of graphs every ninth border is left out, and the layer before tells what the two laps
  take with it.
* Each graph is recorded three times: with all borders, without the first, third, ... and without
  the second, fourth, ... The three recordings are replayed in turn.

        all     ├─ a ─┼─ b ─┼─ c ─┼─ d ─┤
        odd     ├─────────ab┼─────────cd┤      cost of the border a|b = a + b - ab
        even    ├─ a ─┼─────────bc┼─ d ─┤      cost of the border b|c = b + c - bc

Stages are found without looking at the plain run. So the stages and the plain run's wall time are
independent measurements, and how well they agree (the closure) says how far to trust them.

Trade-off: an event must be read before the next replay moves it, and reading hundreds of events
takes the host longer than the graph takes the device. So only the last replay of each recording is
read, when the clock settles, and stands for all replays since the time before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch

from pellucid.runner.borders import NO_STAGE, border_costs, time_of_stages
from pellucid.stages import HOST_STAGES, Clock, WallClock

LEFT_OUT = 9
"""Outside of graphs one border of nine is left out. A layer has five or seven borders, which share
no factor with nine, so over the layers of a model each border gets its turn."""

ALL, ODD, EVEN = "all", "odd", "even"
PATTERNS = (ALL, ODD, EVEN)
"""The borders of a recording: all, or without the first, third, ..., or the second, fourth, ..."""


@dataclass(slots=True, eq=False)
class Recording:
    """The borders of one captured graph, and what its last replay has shown."""

    pattern: str
    stages: list[str] = field(default_factory=list)
    """The stage of each lap, whether or not the border at its end was left out."""
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
        """Whether the latest of `stages` ends with a border in this recording. (The end of the
        graph always gets one, which costs nothing: no kernel follows it.)"""
        odd = len(self.stages) % 2 == 1
        return self.pattern == ALL or odd == (self.pattern == EVEN)

    def read(self) -> None:
        """Read the times of the last replay, which must have ended."""
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
        """Record a border. Kept short, because the host's time here belongs to no stage: two lists
        grow, and no object is made for a lap, since objects make the garbage collector run."""
        if self._inside is not None:
            self._inside.stages.append(stage)
            if self._inside.has_border():
                self._inside.events.append(external_event())
            return
        event = None
        self._countdown -= 1
        # A stage is left out only after it was seen: that lap tells what it takes alone.
        if self._countdown > 0 or stage in HOST_STAGES or stage not in self._stages:
            event = self._event()
        else:
            self._countdown = LEFT_OUT
        self._stages.append(stage)
        self._open.append(event)

    def settle(self) -> None:
        """Wait for the device and add up what is open. Call it before reading `ns`."""
        if self._open and self._open[-1] is None:
            self._mark(NO_STAGE)
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
        """The device had nothing to do until here: that is `host_gap`."""
        self._mark("host_gap")

    def after_replay(self, recording: Recording) -> None:
        """The graph's own time belongs to its recording, so the next lap begins here."""
        recording.num_replays += 1
        recording.is_read = False
        self._mark(NO_STAGE)

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
        """A lap whose border is never left out."""
        self._stages.append(stage)
        self._open.append(self._event())

    def _event(self) -> torch.cuda.Event:
        """An event recorded now. Events are used again and the stream is kept, because making an
        event and asking for the stream cost the host more than recording does."""
        event = self._spare.pop() if self._spare else torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event


class GraphTimes:
    """The recordings of one graph, and what each of its borders costs."""

    def __init__(self) -> None:
        self.recordings: list[Recording] = []
        self._costs: list[float] = []

    def read(self) -> None:
        """Read the last replay of each recording; once all three were replayed, find anew what
        the graph's borders cost."""
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
        """Start at zero replays; times and costs stay known until the next reading."""
        for recording in self.recordings:
            recording.forget()


def external_event() -> torch.cuda.Event:
    """An event in the graph that is being captured."""
    event = torch.cuda.Event(enable_timing=True, external=True)
    event.record()
    return event
