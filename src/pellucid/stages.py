"""Stage names and the clock that adds up time between their borders.

The names are the same in code, metrics, command line, run files and on the page. A clock has one
verb, `lap(stage)`: the time since the previous lap belongs to `stage`. Code that runs a stage laps
at the stage's end, so consecutive laps tile the wall time and nothing is counted twice.

`NullClock` is the off form: a method that does nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Final, Protocol

HOST_STAGES: Final = ("queue", "tokenize", "schedule", "prepare", "host_gap", "detokenize")
DEVICE_STAGES: Final = (
    "embed",
    "norm",
    "qkv",
    "kv_write",
    "attention",
    "o_proj",
    "mlp",
    "lm_head",
    "sample",
    "draft",
    "verify",
    "all_reduce",
    "other",
)
STAGES: Final = HOST_STAGES + DEVICE_STAGES


class Clock(Protocol):
    def lap(self, stage: str) -> None:
        """Give the time since the previous lap to `stage`."""


class NullClock:
    """Off: costs one empty call per border."""

    def lap(self, stage: str) -> None:
        pass


class Laps:
    """What the parts of a start take, in seconds by name. A lap ends where the next one begins."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


class WallClock:
    """Monotonic nanoseconds on the host. Right for a CPU, where no op outlives its call."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = defaultdict(int)
        self._last = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        now = time.perf_counter_ns()
        self.ns[stage] += now - self._last
        self._last = now

    def settle(self) -> None:
        """`ns` is up to date: on the host there is nothing to wait for."""

    def restart(self) -> None:
        """Forget everything so far and start at zero."""
        self.ns.clear()
        self._last = time.perf_counter_ns()
