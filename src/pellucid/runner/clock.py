"""A clock for devices that run behind the host's back.

Problem: a lap on a GPU is an event put into the stream, which gets its time when the work before it
is done; inside a captured graph an *external* event does the same at every replay. But events are
not free. Between launches made one by one a border costs what putting down the event costs. Between
two kernels of a graph it costs several times as much (about 5 µs on an H100), because it parts
kernels that would otherwise have begun before their predecessors had ended.

Idea: measure that cost in the same run and take it out of every stage.

* Now and then a border is put down twice: between the two there is nothing else.
* Each graph is recorded twice, with all borders and with every second one, and the two are replayed
  in turn. What they differ by, shared out over the borders they differ by, is what a border costs.

Neither looks at the plain run. So the stages and the plain run's wall time are found independently,
and how well they agree (the closure) says how far to trust them.

Trade-off: an event must be read before the next replay moves it, and reading hundreds of them takes
the host longer than the graph takes the device. So only the last replay of each recording is read,
when the clock settles, and stands for all since the time before.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch

from pellucid.stages import Clock, WallClock

BORDER = "border"
"""Between two borders with nothing in between."""

TWICE_EVERY = 16
"""Borders, one of which is put down twice."""


@dataclass(slots=True, eq=False)
class Recording:
    """The borders of one captured graph, and what its replays have shown."""

    every: int
    """1: all borders are there; 2: every second one; 0: none."""
    stages: list[str] = field(default_factory=list)
    """At the end of which stage each border after the first stands, or `BORDER`."""
    events: list[torch.cuda.Event] = field(default_factory=list)
    num_laps: int = 0
    num_replays: int = 0
    is_read: bool = True
    """Whether the last replay has been read."""
    readings: list[list[float]] = field(default_factory=list)
    """Nanoseconds before each border after the first, of the replays that were read."""

    def read(self) -> None:
        """Take down the last replay's times, which must have ended."""
        if not self.is_read:
            times = [a.elapsed_time(b) * 1e6 for a, b in pairwise(self.events)]
            self.readings.append(times)
            self.is_read = True

    def means(self) -> list[float]:
        return [statistics.fmean(times) for times in zip(*self.readings, strict=True)]

    def forget(self) -> None:
        self.num_replays, self.readings = 0, []


class RunClock(Clock, Protocol):
    """A clock that knows about graphs."""

    densities: tuple[int, ...]
    """A graph is recorded once for each: with every so manieth border, 0 for none."""

    @contextmanager
    def recording(self, every: int) -> Iterator[Recording]:
        """Laps inside belong to the graph that is being captured."""
        yield Recording(every)

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

    densities = (0,)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def lap(self, stage: str) -> None:
        self._clock.lap(stage)


class EventClock(RunClock):
    """Adds up the device's time between borders, in nanoseconds per stage."""

    densities = (1, 2)

    def __init__(self, device: torch.device) -> None:
        self.ns: dict[str, int] = {}
        self._device = device
        self._inside: Recording | None = None
        self._open: list[tuple[str, torch.cuda.Event]] = []
        self._recordings: list[Recording] = []
        self._last = self._event()
        self._forget()

    def lap(self, stage: str) -> None:
        if self._inside is not None:
            self._inside.num_laps += 1
            if self._inside.num_laps % self._inside.every == 0:
                self._mark(self._inside, stage)
            if self._inside.num_laps % TWICE_EVERY == 0 and self._inside.every == 1:
                self._mark(self._inside, BORDER)
            return
        self._open.append((stage, self._event()))
        self._num_laps += 1
        if self._num_laps % TWICE_EVERY == 0:
            self._open.append((BORDER, self._event()))

    def settle(self) -> None:
        """Wait for the device and add up what is open. Call it before reading `ns`."""
        torch.cuda.synchronize(self._device)
        for recording in self._recordings:
            recording.read()
        for stage, event in self._open:
            if stage:
                self._times[stage].append(self._last.elapsed_time(event) * 1e6)
            self._last = event
        self._open = []
        self.ns = self._add_up()

    def restart(self) -> None:
        """Forget everything so far and start at zero."""
        self.settle()
        self._forget()

    @contextmanager
    def recording(self, every: int) -> Iterator[Recording]:
        self._inside = recording = Recording(every)
        recording.events.append(self._event(external=True))
        try:
            yield recording
        finally:
            self._inside = None
        self._recordings.append(recording)

    def before_replay(self, recording: Recording) -> None:
        """Until here the device had nothing to do."""
        self.lap("host_gap")

    def after_replay(self, recording: Recording) -> None:
        """The graph's own time belongs to its recording, so the next lap begins here."""
        recording.num_replays += 1
        recording.is_read = False
        self._open.append(("", self._event()))

    @property
    def border_ns(self) -> float:
        """What a border outside of graphs costs, in nanoseconds."""
        return statistics.median(self._times.get(BORDER) or [0.0])

    def _add_up(self) -> dict[str, int]:
        totals: dict[str, float] = defaultdict(float)
        for stage, times in self._times.items():
            if stage != BORDER:
                totals[stage] += sum(max(0.0, time - self.border_ns) for time in times)
        for full, half in zip(self._recordings[::2], self._recordings[1::2], strict=True):
            if full.readings:
                count, cost = full.num_replays + half.num_replays, border_cost(full, half)
                for stage, time in zip(full.stages, full.means(), strict=True):
                    if stage != BORDER:
                        totals[stage] += max(0.0, time - cost) * count
        return {stage: round(total) for stage, total in totals.items()}

    def _forget(self) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)
        self._num_laps = 0
        for recording in self._recordings:
            recording.forget()
        self._last = self._event()
        self.ns = {}

    def _mark(self, recording: Recording, stage: str) -> None:
        recording.stages.append(stage)
        recording.events.append(self._event(external=True))

    def _event(self, external: bool = False) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True, external=external)
        event.record()
        return event


def border_cost(full: Recording, half: Recording) -> float:
    """Nanoseconds that a border between two kernels of a graph costs.

    full, half: the same graph with all borders and with every second one. A border behind which no
    kernel stands costs less, as much as one that was put down twice, and is known by that.
    """
    pairs = list(zip(full.stages, full.means(), strict=True))
    empty = statistics.median([time for stage, time in pairs if stage == BORDER] or [0.0])
    times = [time for stage, time in pairs if stage != BORDER]
    if not half.readings:
        return empty
    # A border that is left out saves its cost if it stood between two kernels; else the border of
    # the one kernel is still there, and an empty one is what has gone.
    left_out = list(zip(times[::2], times[1::2], strict=False))
    num_between = sum(min(both) > 2 * empty for both in left_out)
    saved = sum(times[: 2 * len(left_out)]) - sum(half.means())
    saved -= empty * (len(left_out) - num_between)
    return max(0.0, saved / num_between) if num_between else empty
