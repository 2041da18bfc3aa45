"""What is measured: cells of phase, length and batch, and whether an engine can hold them.

A *cell* is one phase (decode or prefill) at one length and batch. A *block* visits all of them, in
an order that is random but always the same for the same seed (`measure.py` says what for).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.request import SamplingParams

DECODE, PREFILL = "decode", "prefill"
PHASES = (DECODE, PREFILL)
GRID = tuple(64 * 2**octave for octave in range(7))
"""Lengths that are measured unless others are given, as far as they fit."""

FEWEST_STEPS, MOST_STEPS = 2, 64
"""Of a run that decodes."""
SPARE = 4
"""Tokens that a sequence may have besides those that count: the first, and some in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure. Bad values raise `InputError`."""

    lengths: tuple[int, ...] = ()
    """Tokens of context; empty: those of `GRID` that fit."""
    batches: tuple[int, ...] = (1,)
    """Sequences in a step."""
    phases: tuple[str, ...] = PHASES
    blocks: int = 10
    """Times that every cell is measured."""
    max_seconds: float = 0.0
    """Fewer blocks, but one at least, if they would take longer; 0: as long as it takes."""
    temperature: float = 0.0
    """Of the sampling; 0 takes the most likely token."""
    seed: int = 0
    """Of the prompts and of the order of runs."""

    def __post_init__(self) -> None:
        for name in ("lengths", "batches"):
            if any(number < 1 for number in getattr(self, name)):
                raise InputError(f"{name} must be numbers of 1 or more", param=name)
        for phase in self.phases:
            if phase not in PHASES:
                known = " and ".join(PHASES)
                raise InputError(f"phases can be {known}, not {phase!r}", param="phases")
        for name in ("batches", "phases"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty: give at least one", param=name)
        if self.blocks < 1:
            raise InputError(f"blocks must be at least 1, not {self.blocks}", param="blocks")
        if not self.max_seconds >= 0:
            raise InputError("max_seconds must be 0 (no limit) or more", param="max_seconds")
        SamplingParams(temperature=self.temperature)  # refuses what is out of range


class Cell(NamedTuple):
    phase: str
    length: int
    batch: int

    @property
    def most_steps(self) -> int:
        """Steps that a decode run may have and still stay near its length."""
        return max(FEWEST_STEPS, min(MOST_STEPS, self.length // 4))

    @property
    def span(self) -> int:
        """Tokens that each of its sequences may come to have."""
        return self.length + self.most_steps // 2 + SPARE


def fit_settings(engine: Engine, settings: Settings) -> Settings:
    """The settings with lengths; `InputError` if a cell is beyond what the engine can hold."""
    most = max(settings.batches)
    if most > engine.config.max_seqs:
        raise InputError(
            f"batch {most} is more than max_seqs {engine.config.max_seqs}: raise max_seqs",
            param="batches",
        )
    if not settings.lengths:
        room = min(longest(engine, most))
        lengths = tuple(n for n in GRID if Cell(DECODE, n, most).span <= room)
        settings = replace(settings, lengths=lengths or (max(1, room // 2),))
    for cell in cells_of(settings):
        context, cache = longest(engine, cell.batch)
        if cell.span > context:
            raise InputError(
                f"length {cell.length} takes {cell.span} tokens of context, and the context "
                f"length is {context}: leave it out or raise context_length",
                param="lengths",
            )
        if cell.span > cache:
            raise InputError(
                f"length {cell.length} at batch {cell.batch} takes {cell.span} tokens a sequence, "
                f"and the KV cache holds {cache}: leave it out or raise memory or num_blocks",
                param="lengths",
            )
    return settings


def longest(engine: Engine, batch: int) -> tuple[int, int]:
    """Tokens that each of `batch` sequences may have: by the context length, by the KV cache."""
    info = engine.info
    return info.context_length, info.num_blocks // batch * info.block_size


def cells_of(settings: Settings) -> list[Cell]:
    """Every combination once, the most tokens first."""
    cells = {
        Cell(phase, length, batch)
        for phase in settings.phases
        for length in settings.lengths
        for batch in settings.batches
    }
    return sorted(cells, key=lambda c: (c.length * c.batch, c.length, c.phase), reverse=True)


def order_of(cells: Sequence[Cell], number: int, seed: int) -> list[tuple[Cell, bool]]:
    """The cells as block `number` visits them, and whether they begin with borders."""
    rng = random.Random(f"{seed} {number}")
    return [(cell, rng.random() < 0.5) for cell in rng.sample(cells, len(cells))]
