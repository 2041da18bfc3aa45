"""How a step gets onto the device: launch by launch, or as one graph.

Problem: a step of few tokens is some two hundred kernels of a few microseconds each, and Python
needs longer to launch one than the GPU to run it.

Idea: a CUDA graph is a recording of launches that the driver replays in one call. Nothing in it may
change but the contents of memory, so every input has a fixed address (`padded.PaddedInputs`), and
there is one graph for each shape that a step is padded to.

When: recording makes the host wait for the device, and whoever waits for the tokens of a step in
flight would wait with it. So a shape that has no graph yet is launched kernel by kernel and noted
in `missing`; the engine has it recorded when nothing is in flight (`Engine.step`).

Trade-off: a recording takes about as long as a step launched one by one, and the memory that its
intermediate results take is set aside; graphs share one pool, since only one runs at a time. A
graph runs exactly the kernels of the eager step on the same padded rows, so the results are the
same to the bit.

Source: Gray 2019, "Getting Started with CUDA Graphs" (NVIDIA).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

import torch

from pellucid.runner.clock import EventClock, Recording, RunClock, UntimedGraphs
from pellucid.runner.shapes import Shape
from pellucid.sampling.sampler import Drawn
from pellucid.stages import Clock

Body = Callable[[], Drawn]
"""A step on the buffers of one shape: launches everything, returns what it draws."""

Graphs = dict[Shape, deque[tuple[torch.cuda.CUDAGraph, Drawn, Recording]]]
"""By shape: recordings of the same step, to be replayed in turn."""


class Executor(Protocol):
    missing: set[Shape]
    """Shapes that have been run and have no graph yet."""

    def is_ready(self, shape: Shape) -> bool:
        """Whether there is nothing to prepare for this shape."""

    def run(self, shape: Shape, body: Body) -> Drawn:
        """What `body` returns. The same shape always means the same body. Never records."""

    def prepare(self, shape: Shape, body: Body) -> None:
        """Make ready what `run` of this shape needs. No step may be in flight."""

    def give_up(self, shape: Shape) -> None:
        """Count the shape as ready though it is not: preparing it has failed."""

    def use(self, clock: Clock) -> None:
        """Laps belong to `clock` from here on."""


class EagerExecutor:
    """Off: every kernel is launched from Python."""

    def __init__(self) -> None:
        self.missing: set[Shape] = set()

    def is_ready(self, shape: Shape) -> bool:
        return True

    def run(self, shape: Shape, body: Body) -> Drawn:
        return body()

    def prepare(self, shape: Shape, body: Body) -> None:
        body()

    def give_up(self, shape: Shape) -> None:
        pass

    def use(self, clock: Clock) -> None:
        pass


class CudaGraphExecutor:
    """Records each body once and replays it from then on.

    Borders are part of a recording, so each clock that asks for them has graphs of its own; they go
    when the clock goes.
    """

    def __init__(self, clock: Clock) -> None:
        self.missing: set[Shape] = set()
        self._given_up: set[Shape] = set()
        self._pool = torch.cuda.graph_pool_handle()
        self._plain: Graphs = {}
        self._timed: WeakKeyDictionary[EventClock, Graphs] = WeakKeyDictionary()
        self.use(clock)

    def use(self, clock: Clock) -> None:
        self.missing.clear()
        self._graphs = self._plain
        self._clock: RunClock = UntimedGraphs(clock)
        if isinstance(clock, EventClock):
            self._graphs = self._timed.setdefault(clock, {})
            self._clock = clock

    def is_ready(self, shape: Shape) -> bool:
        return shape in self._graphs or shape in self._given_up

    def give_up(self, shape: Shape) -> None:
        self.missing.discard(shape)
        self._given_up.add(shape)

    def run(self, shape: Shape, body: Body) -> Drawn:
        if shape not in self._graphs:
            if shape not in self._given_up:
                self.missing.add(shape)
            return body()
        graph, out, recording = self._graphs[shape][0]
        self._graphs[shape].rotate(-1)
        self._clock.before_replay(recording)
        graph.replay()
        self._clock.after_replay(recording)
        return out

    def prepare(self, shape: Shape, body: Body) -> None:
        """Record the shape. The step must have been run before, so that nothing is compiled or set
        up for the first time while it is recorded."""
        if shape not in self.missing:
            body()
        self.missing.discard(shape)
        if shape not in self._graphs:
            self._graphs[shape] = deque(self._capture(body, p) for p in self._clock.patterns)

    def _capture(self, body: Body, pattern: str) -> tuple[torch.cuda.CUDAGraph, Drawn, Recording]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool), self._clock.recording(pattern) as recording:
            out = body()
        return graph, out, recording
