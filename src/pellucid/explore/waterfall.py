"""Adding the optimizations one at a time, the best first: what each still buys beside the others.

Problem: "twice as fast" is true of an optimization only next to others. When attention takes a
tenth of a token's time, halving it buys a twentieth; the same kernel bought far more before the
rest became fast. So a sum of separate gains overstates what they buy together.

Idea: begin with everything off. In each round every switch that is left is tried on top of what is
there, in turns with it; the one that gains most stays. The first round is each switch *alone*; the
rounds together are the *greedy* order, a way up on which each step says what its switch buys there.
The product of the gains alone, beside the gain of the whole way, says by how much adding up
overstates. Gains are times before over times after, for the batch and for a single sequence; the
gain that decides is the geometric mean of both.

Trade-off: n switches take n (n + 1) / 2 comparisons. A switch that does not work without another
waits until that one is there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.explore.arms import (
    Arm,
    ArmFigures,
    ArmWorkload,
    free_memory,
    in_turns,
    with_changes,
)
from pellucid.explore.runfile import interval
from pellucid.features import FEATURES, excluded
from pellucid.model.checkpoint import Checkpoint


class Climb:
    """The way up from everything off to `wanted` (switch → value), and what of it was measured."""

    def __init__(
        self,
        config: EngineConfig,
        checkpoint: Checkpoint,
        work: ArmWorkload,
        wanted: Mapping[str, str],
        progress: Callable[[str], None],
    ) -> None:
        self.settings = {feature.key: feature.off for feature in FEATURES}
        """Every switch as it is set now; the switches added so far have their wanted value."""
        self.alone: list[dict[str, Any]] = []
        """A row for each switch of the first round."""
        self.greedy: list[dict[str, Any]] = []
        """A row for the best switch of each round."""
        self.notes: list[str] = []
        """A line for each switch that was left out."""
        self._config, self._checkpoint, self._work = config, checkpoint, work
        self._wanted = wanted
        self._left = [key for key, value in wanted.items() if value != self.settings[key]]
        self._progress = progress

    def run(self) -> None:
        """Round after round, until no switch is left that can be added."""
        while self._left and self._round():
            free_memory()
        self.notes += [f"{key}: not reached" for key in self._left]

    def report(self) -> dict[str, Any]:
        """What was measured so far, as it goes to JSON."""
        return {
            "alone": self.alone,
            "greedy": self.greedy,
            "notes": self.notes,
            "overstated": overstatement(self.alone, self.greedy),
        }

    def _round(self) -> bool:
        """Try each switch on top of the present settings and keep the best; False if none runs."""
        base = self._base()
        if base is None:
            return False
        rows = []
        for key in possible(self._left, self.settings, self._wanted):
            row = self._gain(base, key)
            if isinstance(row, str):
                self.notes.append(f"{key}: {row}")
                self._left.remove(key)
                continue
            self._progress(f"{len(self.greedy)} on, {key}: {row['gain']:.2f}x")
            rows.append(row)
            if not self.greedy:
                self.alone.append(row)
        if not rows:
            return False
        best = max(rows, key=lambda row: float(row["gain"]))
        self.greedy.append(best)
        self._left.remove(best["name"])
        self.settings[best["name"]] = self._wanted[best["name"]]
        return True

    def _base(self) -> Arm | None:
        """The engine with the present settings; None, and a note, if it does not run here."""
        try:
            return Arm(with_changes(self._config, self.settings), self._checkpoint, self._work)
        except (InputError, torch.OutOfMemoryError) as error:
            self.notes.append(f"what they would be added to does not run here: {error}")
            return None

    def _gain(self, base: Arm, key: str) -> dict[str, Any] | str:
        """What `key` buys on top of `base`, which has the present settings; or why it cannot."""
        value = self._wanted[key]
        config = with_changes(self._config, {**self.settings, key: value})
        try:
            other = Arm(config, self._checkpoint, self._work)
            before, after = in_turns(base, other, self._work.repeats)
        except (InputError, torch.OutOfMemoryError) as error:
            return str(error).splitlines()[0]
        finally:
            free_memory()
        return {"name": key, "value": value, **gain_row(before, after)}


def possible(left: list[str], settings: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The switches that can be turned on beside `settings`."""
    return [key for key in left if not excluded(key, {**settings, key: wanted[key]})]


def gain_row(before: ArmFigures, after: ArmFigures) -> dict[str, Any]:
    """Times before over times after, run by run; `gain` is their geometric mean."""
    rates = zip(after.batch.tokens_per_s(), before.batch.tokens_per_s(), strict=True)
    paces = zip(before.single.ms_per_token(), after.single.ms_per_token(), strict=True)
    batch, single = ([a / b for a, b in pairs] for pairs in (rates, paces))
    return {
        "gain": math.sqrt(statistics.median(batch) * statistics.median(single)),
        "batch": gain_record(batch),
        "single": gain_record(single),
        "batch_tok_s": statistics.median(after.batch.tokens_per_s()),
        "single_ms_per_token": statistics.median(after.single.ms_per_token()),
        "output_len": {"batch": after.batch.output_len, "single": after.single.output_len},
    }


def gain_record(gains: list[float]) -> dict[str, Any]:
    found = interval(gains)
    return {"median": found.value, "lo": found.lo, "hi": found.hi, "samples": gains}


def overstatement(alone: list[dict[str, Any]], greedy: list[dict[str, Any]]) -> dict[str, float]:
    """The gains alone multiplied, and the gain of the whole way; for the same switches."""
    names = {row["name"] for row in alone}
    product = math.prod(row["gain"] for row in alone)
    together = math.prod(row["gain"] for row in greedy if row["name"] in names)
    return {"product_alone": product, "together": together}
