"""How far the host runs ahead of the device: not at all, or by one step.

Serial, a step is planned, computed and waited for. That leaves the device idle while the host hands
out tokens and plans. With overlap the host launches step n + 1 before it has seen step n's tokens:

    device   │ step n      │ step n + 1  │ step n + 2  │
    host        commit n-1, plan n+1│ commit n, plan n+2 │

The scheduler can plan that far because it needs to know how many tokens a sequence will have, not
which; the tokens themselves are taken over on the device (kernels/rows.py). What it cannot know is
that a sequence is about to end by an end-of-sequence token or a stop string: then one row of the
next step is computed for nothing, and its result ignored.
"""

from __future__ import annotations

from typing import Protocol

from pellucid.runner.runner import RunningStep


class Pipeline(Protocol):
    """The steps that were launched and have not been waited for."""

    @property
    def is_busy(self) -> bool:
        """Whether a step is in flight."""

    def push(self, step: RunningStep | None) -> None:
        """Take in the step just launched, or the news that there is none."""

    def pop(self) -> RunningStep | None:
        """The step to wait for now, if there is one."""

    def clear(self) -> list[RunningStep]:
        """Forget what is in flight; returns it."""


class SerialPipeline:
    """Off: wait for what was just launched."""

    def __init__(self) -> None:
        self._step: RunningStep | None = None

    @property
    def is_busy(self) -> bool:
        return self._step is not None

    def push(self, step: RunningStep | None) -> None:
        self._step = step

    def pop(self) -> RunningStep | None:
        step, self._step = self._step, None
        return step

    def clear(self) -> list[RunningStep]:
        step = self.pop()
        return [step] if step is not None else []


class OverlapPipeline:
    """Wait for the step before the one just launched."""

    def __init__(self) -> None:
        self._newest: RunningStep | None = None
        self._due: RunningStep | None = None

    @property
    def is_busy(self) -> bool:
        return self._newest is not None

    def push(self, step: RunningStep | None) -> None:
        self._newest, self._due = step, self._newest

    def pop(self) -> RunningStep | None:
        step, self._due = self._due, None
        return step

    def clear(self) -> list[RunningStep]:
        steps = [step for step in (self._due, self._newest) if step is not None]
        self._newest = self._due = None
        return steps
