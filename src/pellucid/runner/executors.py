"""How a step gets onto the device: launch by launch, or as one graph.

Problem: a step of few tokens is some two hundred kernels of a few microseconds each, and Python
needs longer to launch one than the GPU to run it.

Idea: a CUDA graph is a recording of launches that the driver replays in one call. Nothing in it may
change but the contents of memory, so every input has a fixed address (`padded.PaddedInputs`), and
there is one graph for each shape that a step is padded to.

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
from pellucid.runner.padded import Shape
from pellucid.stages import Clock

Body = Callable[[], torch.Tensor]
"""A step on the buffers of one shape: launches everything, returns the logits."""

Graphs = dict[Shape, deque[tuple[torch.cuda.CUDAGraph, torch.Tensor, Recording]]]
"""By shape: recordings of the same step, to be replayed in turn."""


class Executor(Protocol):
    def run(self, shape: Shape, body: Body) -> torch.Tensor:
        """What `body` returns. The same shape always means the same body."""

    def is_recorded(self, shape: Shape) -> bool:
        """Whether nothing needs to be made before `run` of this shape can start."""

    def use(self, clock: Clock) -> None:
        """Laps belong to `clock` from here on."""


class EagerExecutor:
    """Off: every kernel is launched from Python."""

    def run(self, shape: Shape, body: Body) -> torch.Tensor:
        return body()

    def is_recorded(self, shape: Shape) -> bool:
        return True

    def use(self, clock: Clock) -> None:
        pass


class CudaGraphExecutor:
    """Records each body once and replays it from then on.

    Borders are part of a recording, so each clock that asks for them has graphs of its own; they go
    when the clock goes.
    """

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self.device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._plain: Graphs = {}
        self._timed: WeakKeyDictionary[EventClock, Graphs] = WeakKeyDictionary()
        self.use(clock)

    def use(self, clock: Clock) -> None:
        self._graphs = self._plain
        self._clock: RunClock = UntimedGraphs(clock)
        if isinstance(clock, EventClock):
            self._graphs = self._timed.setdefault(clock, {})
            self._clock = clock

    @property
    def num_graphs(self) -> int:
        return len(self._graphs)

    def run(self, shape: Shape, body: Body) -> torch.Tensor:
        if shape not in self._graphs:
            out = body()  # the step itself, and whatever is compiled or set up on first use
            self._graphs[shape] = deque(self._capture(body, p) for p in self._clock.patterns)
            return out
        graph, out, recording = self._graphs[shape][0]
        self._graphs[shape].rotate(-1)
        self._clock.before_replay(recording)
        graph.replay()
        self._clock.after_replay(recording)
        return out

    def is_recorded(self, shape: Shape) -> bool:
        return shape in self._graphs

    def _capture(
        self, body: Body, pattern: str
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, Recording]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool), self._clock.recording(pattern) as recording:
            out = body()
        return graph, out, recording
