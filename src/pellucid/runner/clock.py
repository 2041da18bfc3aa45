"""A clock for devices that run behind the host's back.

A lap on a GPU is an event put into the stream: it gets its time when the work before it is done.
Inside a captured graph an *external* event does the same at every replay; reading it must wait for
the replay and come before the next. Borders cost time themselves (about 2.6 µs each in a graph),
so stages are measured on an engine of its own, whose graphs have borders, and the wall time comes
from one without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

from pellucid.stages import Clock, WallClock

Marks = list[tuple[str, torch.cuda.Event]]
"""Stages of a recorded graph, and the event at the end of each."""


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
    """Adds up the device's time between borders, in nanoseconds per stage."""

    def __init__(self, device: torch.device) -> None:
        self.ns: dict[str, int] = defaultdict(int)
        self._device = device
        self._recorded: Marks | None = None
        self._open: Marks = []
        self._last = self._event()

    def lap(self, stage: str) -> None:
        if self._recorded is not None:
            self._recorded.append((stage, self._event(external=True)))
        else:
            self._open.append((stage, self._event()))

    def settle(self) -> None:
        """Wait for the device and add up what is open. Call it before reading `ns`."""
        torch.cuda.synchronize(self._device)
        for stage, event in self._open:
            self.ns[stage] += round(self._last.elapsed_time(event) * 1e6)
            self._last = event
        self._open = []

    def restart(self) -> None:
        """Forget everything so far and start at zero."""
        self.settle()
        self.ns.clear()
        self._last = self._event()

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
