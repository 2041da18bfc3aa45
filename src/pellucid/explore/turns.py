"""Two settings of the switches, measured in turns on one engine.

Problem: what a switch does to the time of a step is a difference of two times, and a machine drifts
by more than that between two measurements.

Idea: one engine changes its switches between blocks (`Engine.switch`, a matter of milliseconds
where the weights stay), so that either setting meets the same machine. The two take turns at going
first:

    block   0     1     2     3
            a b   b a   a b   b a

The result is two run files. Each is what `measure_cells` would have made, and says in its settings
which switches it was measured beside, under a name that both share.

Trade-off: on a GPU the graphs of a setting are lost with a change and must be recorded again, so
that a block there begins with warming up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from pellucid.engine import Engine
from pellucid.explore import runfile
from pellucid.explore.cells import Settings, fit_settings
from pellucid.explore.hardware import measure_limits
from pellucid.explore.measure import (
    Block,
    CellBench,
    Listener,
    MeasureProgress,
    no_interruption,
    run_file_of,
)
from pellucid.features import FEATURES


class Contestant:
    """One side of the comparison: its switches, and what was measured with them."""

    def __init__(
        self,
        engine: Engine,
        switches: Mapping[str, Any],
        settings: Settings,
        between_steps: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._switches = switches
        self.bench = CellBench(engine, settings, between_steps)
        self.blocks: list[Block] = []

    def on(self) -> None:
        """Have the engine go on with these switches."""
        self._engine.switch(**self._switches)

    def ready(self, progress: Listener) -> None:
        """Have kernels, graphs and sizes as a block finds them."""
        self.on()
        self.bench.warm_up(progress)


def measure_in_turns(
    engine: Engine,
    settings: Settings,
    against: Mapping[str, str],
    progress: Listener,
    between_steps: Callable[[], None] = no_interruption,
) -> tuple[runfile.Record, runfile.Record]:
    """The run files of the engine's own switches and of others, block by block in turns.

    `InputError` for switches that cannot be had here. The engine ends as it was, whatever happens.
    """
    begin, settings = time.perf_counter(), fit_settings(engine, settings)
    own = {feature.key: getattr(engine.config, feature.key) for feature in FEATURES}
    engine.switch(**against)  # refused before any time is spent
    sides = [
        Contestant(engine, switches, settings, between_steps)
        for switches in (own, own | {**against})
    ]
    try:
        for side in sides:
            side.ready(progress)
        limits = measure_limits(sides[0].bench.device, sides[0].bench.dtype, between_steps)
        num_blocks = affordable(sides, settings, time.perf_counter() - begin)
        block_s = sum(side.bench.block_s for side in sides)
        note = f"{num_blocks} blocks of both settings: about {num_blocks * block_s:.0f} s"
        progress(MeasureProgress("measure", 0, num_blocks * block_s, note))
        for number in range(num_blocks):
            for place, side in enumerate(sides if number % 2 == 0 else sides[::-1]):
                turn(side, number)
                done = number * block_s + (place + 1) * block_s / 2
                progress(MeasureProgress("measure", done, num_blocks * block_s))
        name = uuid4().hex
        files = []
        for side in sides:
            side.on()
            file = run_file_of(engine, settings, limits, side.blocks, interrupted=False)
            files.append(runfile.seal(unsealed(file) | paired(file, name)))
        return files[0], files[1]
    finally:
        sides[0].on()


def turn(side: Contestant, number: int) -> None:
    """One block of one setting. Its news is kept: cells of two settings make no one picture."""
    side.on()
    if side.bench.device.type == "cuda":
        side.bench.warm_up(hush)
    side.blocks.append(side.bench.block(number, 1, hush))


def hush(news: MeasureProgress) -> None:
    pass


def affordable(sides: list[Contestant], settings: Settings, elapsed_s: float) -> int:
    """How many blocks of both the time limit leaves room for, at least one."""
    if not settings.max_seconds:
        return settings.blocks
    block_s = sum(side.bench.block_s for side in sides)
    return max(1, min(settings.blocks, int((settings.max_seconds - elapsed_s) / block_s)))


def unsealed(file: runfile.Record) -> dict[str, Any]:
    return {key: value for key, value in file.items() if key not in ("schema", "id")}


def paired(file: runfile.Record, name: str) -> dict[str, Any]:
    """The settings of a run that was measured in turns with another one."""
    return {"settings": {**file["settings"], "in_turns": name}}
