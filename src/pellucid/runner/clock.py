"""A clock for devices that run behind the host's back.

A lap on a GPU is an event put into the stream: it gets its time when the work before it is done.
Inside a captured graph an *external* event does the same at every replay; reading it must wait for
the replay and come before the next. Borders cost time themselves (about 2.6 µs each in a graph),
so stages are measured on an engine of its own, whose graphs have borders, and the wall time comes
from one without.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

from pellucid.stages import Clock, WallClock

Marks = list[tuple[str, torch.cuda.Event]]
"""Stages of a recorded graph, and the event at the end of each."""

BORDER = "border"
"""Between two borders with nothing in between."""

TWICE_EVERY = 16
"""Borders, one of which is put down twice."""


class RunClock(Clock, Protocol):
    """A clock that knows about graphs."""

    def recording(self) -> AbstractContextManager[Marks]:
        """Laps inside belong to the graph that is being captured."""

    def before_replay(self, marks: Marks) -> None: ...

    def after_replay(self, marks: Marks) -> None: ...


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


class UntimedGraphs:
    """A clock of the host, for a runner with graphs: they get no borders."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def lap(self, stage: str) -> None:
        self._clock.lap(stage)

    @contextmanager
    def recording(self) -> Iterator[Marks]:
        yield []

    def before_replay(self, marks: Marks) -> None:
        pass

    def after_replay(self, marks: Marks) -> None:
        pass


class EventClock:
    """Adds up the device's time between borders, in nanoseconds per stage.

    What a border itself costs is measured in the same run and taken out of every stage: now and
    then a border is put down twice, and between the two there is nothing else.
    """

    def __init__(self, device: torch.device) -> None:
        self.ns: dict[str, int] = {}
        self._device = device
        self._recorded: Marks | None = None
        self._open: Marks = []
        self._forget()
        self._last = self._event()

    def lap(self, stage: str) -> None:
        self._mark(stage)
        self._num_laps += 1
        if self._num_laps % TWICE_EVERY == 0:
            self._mark(BORDER)

    def settle(self) -> None:
        """Wait for the device and add up what is open. Call it before reading `ns`."""
        torch.cuda.synchronize(self._device)
        for stage, event in self._open:
            self._times[stage].append(self._last.elapsed_time(event) * 1e6)
            self._last = event
        self._open = []
        border = self.border_ns
        self.ns = {
            stage: round(sum(times) - border * len(times))
            for stage, times in self._times.items()
            if stage != BORDER
        }

    @property
    def border_ns(self) -> float:
        """What one border costs, in nanoseconds; 0 before any was put down twice."""
        return statistics.median(self._times.get(BORDER) or [0.0])

    @property
    def num_borders(self) -> int:
        return sum(map(len, self._times.values()))

    def restart(self) -> None:
        """Forget everything so far and start at zero."""
        self.settle()
        self._forget()
        self._last = self._event()

    def _forget(self) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)
        self._num_laps = 0
        self.ns = {}

    def _mark(self, stage: str) -> None:
        inside = self._recorded is not None
        marks = self._recorded if self._recorded is not None else self._open
        marks.append((stage, self._event(external=inside)))

    @contextmanager
    def recording(self) -> Iterator[Marks]:
        self._recorded = []
        try:
            yield self._recorded
        finally:
            self._recorded = None

    def before_replay(self, marks: Marks) -> None:
        """What the last replay of this graph left in its events is read before they move on."""
        self.settle()

    def after_replay(self, marks: Marks) -> None:
        self._open += marks

    def _event(self, external: bool = False) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True, external=external)
        event.record()
        return event
