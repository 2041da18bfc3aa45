"""When a graph is recorded, and what happens where there is no memory for it; without a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pellucid.runner.clock import Recording
from pellucid.runner.executors import CudaGraphExecutor
from pellucid.runner.shapes import Shape
from pellucid.stages import NullClock


class Replayed:
    """A graph that remembers how often it was replayed."""

    count = 0

    def replay(self) -> None:
        self.count += 1


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> CudaGraphExecutor:
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    made = CudaGraphExecutor(NullClock())
    graph = Replayed()
    recording = Recording(pattern="all")
    monkeypatch.setattr(made, "_capture", lambda body, pattern: (graph, body(), recording))
    return made


def test_running_never_records(executor: CudaGraphExecutor) -> None:
    bodies: list[str] = []
    body: Any = lambda: bodies.append("ran")  # noqa: E731
    shape = Shape(4)
    for _ in range(3):
        executor.run(shape, body)
    assert bodies == ["ran"] * 3 and executor.missing == {shape}
    assert not executor.is_ready(shape)
    executor.prepare(shape, body)
    assert executor.is_ready(shape) and not executor.missing
    count = len(bodies)
    executor.run(shape, body)
    assert len(bodies) == count, "from here on the graph is replayed"


def test_what_finds_no_memory_is_not_tried_again(executor: CudaGraphExecutor) -> None:
    shape, ran = Shape(4), []
    body: Any = lambda: ran.append(1)  # noqa: E731
    executor.run(shape, body)
    executor.give_up(shape)
    assert executor.is_ready(shape)
    executor.run(shape, body)
    assert len(ran) == 2 and not executor.missing, "launched one kernel at a time, and not missed"
