"""Where the time of a step goes, by phase, length and batch: raw samples for a run file.

Problem: a machine drifts while it is measured (clocks, heat, neighbours), and looking at the stages
slows down what one looks at.

Idea: a *cell* is one phase (decode or prefill) at one length and batch. A *block* visits all cells
in random order, and runs each twice: one run is plain, the other has borders between the stages.
The plain one gives the wall time, the other one the stages; what the stages leave of the plain wall
time is `other`, so the two keep each other honest. Drift falls on all cells alike. To fall on both
runs of a pair alike, they change places after every step, as in a crossover trial:

    first run    plain  │ borders │ plain   │ borders │ ...
    second run   borders│ plain   │ borders │ plain   │ ...

and what counts as the plain run is the plain steps of both. A device that works behind the host's
back would have to be waited for at each change, so there whole runs take turns. Short runs are
repeated. Medians and their intervals are those of the blocks.

A cell's run:

    prefill   from adding the prompts until each has its first token, all chunks together
    decode    a few steps around the length: prompts begin as if their keys and values were there
              (`Engine.pretend`), the first token is not counted, and the steps after it are half
              before the length and half behind

Everything runs beforehand, so that compiling and the recording of graphs are no part of it. A
graph's borders are in its recording and belong to one clock: all timed runs share theirs. This
clock reads the last replay of each of a graph's three recordings, hence at least four steps before
a run means anything. The warm-up begins with the most tokens, computed in earnest: a block of the
KV cache that nobody ever wrote is no memory yet on a CPU, and would be read at the speed of a
cache.

Trade-off: a pretended prefix makes a long context as cheap to measure as a short one, and the
tokens that come out mean nothing.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

import torch

from pellucid.engine import Engine
from pellucid.explore import runfile
from pellucid.explore.cells import (
    DECODE,
    FEWEST_STEPS,
    PREFILL,
    SPARE,
    Cell,
    Settings,
    cells_of,
    fit_settings,
    order_of,
)
from pellucid.explore.hardware import environment, measure_limits, synchronize
from pellucid.request import Request, SamplingParams, raise_errors, to_builtins
from pellucid.runner.clock import TimingClock, make_clock
from pellucid.stages import STAGES

RUN_NS = 400_000_000
"""Runs have as many steps and repeats as fit into this time, within the bounds below."""
FEWEST_CHUNKS = 4
"""Of a prefill with all its repeats …"""
LONG_NS = 2_500_000_000
"""… unless that would take longer than this; a single one may."""
FEWEST_REPLAYS = 4
"""Steps of a decode run, and warm-ups of a prefill, where there may be graphs: one is launched and
recorded, three are replayed."""
MOST_REPEATS = 16


class Size(NamedTuple):
    """How large a run of a cell is."""

    num_steps: int
    """Decoded, or as many as the prompts take."""
    repeats: int = 1


@dataclass(slots=True)
class Side:
    """One half of a pair, the plain one or the one with borders: the time of its steps so far."""

    clock: TimingClock | None = None
    """None: plain."""
    wall_ns: int = 0
    stages_ns: Counter[str] = field(default_factory=Counter)

    def per(self, count: int) -> CellTimes:
        """The same, shared out."""
        stages = {stage: round(ns / count) for stage, ns in self.stages_ns.items()}
        return CellTimes(round(self.wall_ns / count), stages)


class CellTimes(NamedTuple):
    """One run of a cell, in nanoseconds: of a step when decoding, of all steps in prefill."""

    wall_ns: int
    stages_ns: dict[str, int]
    """By stage; empty if it was plain."""


class Pair(NamedTuple):
    """The two runs of a cell in a block."""

    num_steps: int
    plain: CellTimes
    timed: CellTimes


Block = dict[Cell, Pair]


@dataclass(frozen=True, slots=True)
class MeasureProgress:
    """How far a measurement has come."""

    doing: str
    """warm-up or measure"""
    done: float
    total: float
    """Cells of the warm-up, predicted seconds of the measurement."""
    note: str = ""
    """A line to read, if there is something new to say."""
    cell: dict[str, Any] | None = None
    """What has been measured of a cell so far, if something new has."""


Listener = Callable[[MeasureProgress], None]


def no_interruption() -> None:
    """Nobody needs to be heard between steps."""


def measure_cells(
    engine: Engine,
    settings: Settings,
    progress: Listener,
    between_steps: Callable[[], None] = no_interruption,
) -> runfile.Record:
    """Measure every cell on an idle engine; returns the run file, sealed.

    `between_steps` is called where no time is taken, and may raise to end it: a step of a large
    cell takes seconds on a CPU, and the next progress may be a minute away.
    Ctrl-C (or `progress` raising `KeyboardInterrupt`) ends it early; blocks that are whole are
    kept, and without any the interrupt goes on. `InputError` if a cell does not fit the engine.
    """
    begin = time.perf_counter()
    settings = fit_settings(engine, settings)
    bench = CellBench(engine, settings, between_steps)
    bench.warm_up(progress)
    limits = measure_limits(bench.device, bench.dtype, between_steps)
    num_blocks = bench.affordable(time.perf_counter() - begin)
    progress(MeasureProgress("measure", 0, num_blocks * bench.block_s, bench.estimate(num_blocks)))
    blocks: list[Block] = []
    interrupted = False
    try:
        for number in range(num_blocks):
            blocks.append(bench.block(number, num_blocks, progress, blocks))
    except KeyboardInterrupt:
        if not blocks:
            raise
        interrupted = True
    return run_file_of(engine, settings, limits, blocks, interrupted)


# --- measuring it --------------------------------------------------------------------------------


class CellBench:
    """An engine, the clock of its timed runs, and how large a run of each cell is."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        between_steps: Callable[[], None] = no_interruption,
    ) -> None:
        self.engine = engine
        self._between_steps = between_steps
        self.settings = settings
        self.cells = cells_of(settings)
        self.device = torch.device(engine.info.device)
        self.dtype: torch.dtype = getattr(torch, engine.info.dtype)
        self.clock = make_clock(self.device)
        self.sizes: dict[Cell, Size] = {}
        self.pair_s: dict[Cell, float] = {}
        """Seconds that both runs of a cell take, as the warm-up predicts."""
        self._whole_runs = self.device.type != "cpu"
        """Whether a side keeps its turn for a whole run (GPU) or for one step (CPU)."""
        self._fewest_steps = FEWEST_REPLAYS if self._whole_runs else FEWEST_STEPS

    @property
    def block_s(self) -> float:
        return sum(self.pair_s.values())

    def warm_up(self, progress: Listener) -> None:
        """Run every cell once: compiles kernels, records graphs, touches memory. How long it takes
        decides the size of the cell's runs."""
        progress(
            MeasureProgress("warm-up", 0, len(self.cells), f"warming up {len(self.cells)} cells")
        )
        if PREFILL not in self.settings.phases:
            self._touch()
        for number, cell in enumerate(self.cells, 1):
            for sides in self._warming(cell):
                self.run(cell, self._fewest_steps, 0, sides)
            begin, side = time.perf_counter(), Side()
            num_steps = self.run(cell, self._fewest_steps, 0, [side])
            self._plan(cell, num_steps, side.wall_ns / 1e9, time.perf_counter() - begin)
            progress(MeasureProgress("warm-up", number, len(self.cells)))

    def _touch(self) -> None:
        """Have the cache's first blocks be memory. A GPU is quick to compute the longest prompt; on
        a CPU that takes seconds in which nobody else is answered."""
        longest = self.cells[0]
        if self._whole_runs:
            self.run(longest._replace(phase=PREFILL), 0, 0, [Side()])
            return
        for _ in self.engine.touch(longest.span * longest.batch):
            self._between_steps()

    def _warming(self, cell: Cell) -> list[list[Side]]:
        """The warm-up runs of a cell, each given by the sides that take turns in it."""
        timed, plain = [Side(self.clock)], [Side()]
        if self._whole_runs:
            return [timed] * (1 if cell.phase == DECODE else FEWEST_REPLAYS) + [plain]
        # No graphs, and stages are looked at only to have done so once.
        return [timed] if cell.phase == DECODE else []

    def affordable(self, elapsed_s: float) -> int:
        """How many blocks the time limit leaves room for, at least one."""
        wanted, limit_s = self.settings.blocks, self.settings.max_seconds
        if not limit_s:
            return wanted
        return max(1, min(wanted, int((limit_s - elapsed_s) / self.block_s)))

    def estimate(self, num_blocks: int) -> str:
        """What is about to be measured and how long that takes, in a line."""
        wanted = self.settings.blocks
        fewer = f" ({wanted} do not fit into the time)" if num_blocks < wanted else ""
        return (
            f"{num_blocks} blocks of {len(self.cells)} cells{fewer}: "
            f"about {num_blocks * self.block_s:.0f} s"
        )

    def block(
        self, number: int, num_blocks: int, progress: Listener, before: Sequence[Block] = ()
    ) -> Block:
        """Every cell once with borders and once without. before: the blocks so far."""
        block: Block = {}
        done, total = number * self.block_s, num_blocks * self.block_s
        for cell, timed_first in order_of(self.cells, number, self.settings.seed):
            block[cell] = self.pair(cell, number, timed_first)
            done += self.pair_s[cell]
            so_far = record_of(cell, [one[cell] for one in (*before, block)])
            progress(MeasureProgress("measure", done, total, cell=so_far))
        return block

    def pair(self, cell: Cell, number: int, timed_first: bool) -> Pair:
        """Both runs of a cell, with all repeats; plain and timed steps alternate."""
        plain, timed = Side(), Side(self.clock)
        sides = [timed, plain] if timed_first else [plain, timed]
        num_steps, repeats = self.sizes[cell]
        for _ in range(repeats):
            for turn in (sides, sides[::-1]):
                num_steps = self.run(cell, num_steps, number, turn)
        count = repeats * (num_steps if cell.phase == DECODE else 1)
        return Pair(num_steps, plain.per(count), timed.per(count))

    def run(self, cell: Cell, num_steps: int, number: int, sides: Sequence[Side]) -> int:
        """One run of a cell, its time given to `sides` in turn; returns how many steps it had.

        The same `number`, the same prompts. num_steps: decode steps, an even number.
        """
        requests = self._requests(cell, num_steps, number)
        turns = cycle(sides)
        try:
            if cell.phase == PREFILL:
                return self._prefill(requests, turns)
            self._decode(requests, num_steps, turns)
            return num_steps
        finally:
            self._clear(requests)

    def _prefill(self, requests: Sequence[Request], turns: Iterator[Side]) -> int:
        waiting = deque(requests)

        def some_steps() -> None:
            while waiting:
                request = waiting.popleft()
                self.engine.add(request, last=not waiting)
            raise_errors(self.engine.step())
            while self._whole_runs and self.engine.has_work:
                raise_errors(self.engine.step())

        before = self.engine.stats().num_steps
        while waiting or self.engine.has_work:
            self._time(some_steps, next(turns))
        return self.engine.stats().num_steps - before

    def _decode(self, requests: Sequence[Request], num_steps: int, turns: Iterator[Side]) -> None:
        def some_steps() -> None:
            num_tokens = len(requests) * (num_steps if self._whole_runs else 1)
            while num_tokens > 0:
                num_tokens -= len(raise_errors(self.engine.step()))
                if num_tokens > 0 and not self._whole_runs:
                    # Without a KV cache a token takes many steps, and seconds; a look at the socket
                    # takes some 20 µs of them.
                    self._between_steps()

        for request in requests:
            self.engine.add(request, last=request is requests[-1])
            self.engine.pretend(request.id, len(request.prompt_token_ids))
        while not raise_errors(self.engine.step()):  # the first token does not count
            self._between_steps()
        for _ in range(1 if self._whole_runs else num_steps):
            self._time(some_steps, next(turns))

    def _time(self, work: Callable[[], None], side: Side) -> None:
        """Add to `side` what `work` takes, the device's part included."""
        self._between_steps()
        with self.engine.timed(side.clock) if side.clock else nullcontext():
            synchronize(self.device)
            if side.clock:
                side.clock.restart()
            begin = time.perf_counter_ns()
            work()
            synchronize(self.device)
            side.wall_ns += time.perf_counter_ns() - begin
            if side.clock:
                side.clock.settle()
                side.stages_ns.update(side.clock.ns)

    def _requests(self, cell: Cell, num_steps: int, number: int) -> list[Request]:
        """Random prompts: of the length, or shorter by half the steps that will be decoded."""
        rng = random.Random(f"{self.settings.seed} {number} {cell}")
        length, max_tokens = cell.length, 1
        if cell.phase == DECODE:
            length, max_tokens = max(1, length - num_steps // 2), num_steps + SPARE
        params = SamplingParams(
            temperature=self.settings.temperature,
            seed=number,
            max_tokens=max_tokens,
            ignore_eos=True,
        )
        vocab = range(self.engine.info.vocab_size)
        return [
            Request(
                id=f"measure-{index}", prompt_token_ids=rng.choices(vocab, k=length), params=params
            )
            for index in range(cell.batch)
        ]

    def _clear(self, requests: Sequence[Request]) -> None:
        """Leave the engine as it was. The last requests go first, so that blocks lie in order."""
        for request in reversed(requests):
            self.engine.abort(request.id)
        self.engine.drain()

    def _plan(self, cell: Cell, num_steps: int, timed_s: float, run_s: float) -> None:
        """Choose steps and repeats of a cell from a run that took `run_s` seconds, `timed_s` of
        which in the steps that count."""
        most_s = RUN_NS / 1e9
        if cell.phase == DECODE:
            step_s, setup_s = timed_s / num_steps, run_s - timed_s
            # Even: both sides get as many.
            most = int(min(cell.most_steps, most_s / step_s))
            num_steps = max(self._fewest_steps, most // 2 * 2)
            timed_s = num_steps * step_s
            run_s = setup_s + timed_s
        fewest = max(1, min(-(-FEWEST_CHUNKS // num_steps), round(LONG_NS / 1e9 / timed_s)))
        repeats = max(fewest, min(MOST_REPEATS, round(most_s / timed_s)))
        self.sizes[cell] = Size(num_steps, repeats)
        self.pair_s[cell] = 2 * repeats * run_s


# --- what to say about it ------------------------------------------------------------------------


def run_file_of(
    engine: Engine,
    settings: Settings,
    limits: Mapping[str, float],
    blocks: Sequence[Block],
    interrupted: bool,
) -> runfile.Record:
    """Everything measured, as a sealed run file."""
    info = engine.info
    cells = [record_of(cell, [block[cell] for block in blocks]) for cell in sorted(blocks[0])]
    ratios = [runfile.instrument_ratio(cell) for cell in cells]
    return runfile.seal(
        {
            "environment": environment(),
            "model": {"name": info.model, "spec": asdict(engine.checkpoint.spec)},
            "engine": to_builtins(info),
            "config": asdict(engine.config),
            "weight_bytes": info.weight_bytes,
            "head_bytes": info.head_bytes,
            "kv_bytes_per_token": info.kv_bytes_per_token,
            "limits": dict(limits),
            "settings": asdict(settings),
            "cells": cells,
            "closure": runfile.closure(cells),
            "instrument_ratio": statistics.median(ratios),
            "worst_instrument_ratio": max(ratios),
            "interrupted": interrupted,
        }
    )


def record_of(cell: Cell, pairs: Sequence[Pair]) -> dict[str, Any]:
    """A cell of the run file: its samples, one for each block."""
    known: tuple[str, ...] = STAGES
    found = {stage for pair in pairs for stage in pair.timed.stages_ns} - {runfile.OTHER}
    names = [stage for stage in known if stage in found] + sorted(found.difference(known))
    stages = {name: [pair.timed.stages_ns.get(name, 0) for pair in pairs] for name in names}
    walls = [pair.plain.wall_ns for pair in pairs]
    claimed = [sum(times) for times in zip(*stages.values(), strict=True)]
    stages[runfile.OTHER] = [wall - ns for wall, ns in zip(walls, claimed, strict=True)]
    return runfile.with_median(
        {
            "phase": cell.phase,
            "length": cell.length,
            "batch": cell.batch,
            "num_steps": pairs[0].num_steps,
            "wall_ns": walls,
            "timed_wall_ns": [pair.timed.wall_ns for pair in pairs],
            "stages_ns": stages,
        }
    )
