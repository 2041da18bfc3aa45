"""How far the host runs ahead of the device: not at all, or by one step.

Serial, a step is planned, computed and waited for. That leaves the device idle while the host hands
out tokens and plans. With overlap the host launches step n + 1 before it has seen step n's tokens:

    device   │ step n      │ step n + 1  │ step n + 2  │
    host        commit n-1, plan n+1│ commit n, plan n+2 │

The scheduler can plan that far because it needs to know how many tokens a sequence will have, not
which; the tokens themselves are taken over on the device (`inputs.resolve`). What it cannot know is
that a sequence is about to end by an end-of-sequence token or a stop string: then one row of the
next step is computed for nothing, and its result ignored.
"""

from __future__ import annotations

from typing import Protocol

from pellucid.runner.runner import Flight


class Lane(Protocol):
    @property
    def busy(self) -> bool:
        """Whether a step is in flight."""

    def turn(self, flight: Flight | None) -> Flight | None:
        """Take in the step just launched, if there is one; give back the one to wait for."""


class SerialLane:
    """Off: wait for what was just launched."""

    busy = False

    def turn(self, flight: Flight | None) -> Flight | None:
        return flight


class OverlapLane:
    """Wait for the step before the one just launched."""

    def __init__(self) -> None:
        self._ahead: Flight | None = None

    @property
    def busy(self) -> bool:
        return self._ahead is not None

    def turn(self, flight: Flight | None) -> Flight | None:
        flight, self._ahead = self._ahead, flight
        return flight
