"""What a border between two stages costs, from laps with and without it. Arithmetic, no device.

A border is an event that `clock.py` puts between two stages, and it costs time. Two laps a and b
with a border between them take a + b; the one lap without it takes ab. So

    cost = a + b - ab

Outside of graphs the same pairs of stages come in every layer. Every border left out gives one such
difference, and their trimmed mean is taken for the cost of every border: the mean, because sums of
laps have to be right and a few expensive borders are a good part of them; trimmed, because a
difference of a millisecond is no border but the machine doing something else.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

TRIMMED = 0.05
"""Part of the differences, at either end, that counts as noise."""

NO_STAGE = ""
"""The stage of a lap whose time belongs to no stage."""


def time_of_stages(stages: Sequence[str], times: Sequence[float | None]) -> dict[str, float]:
    """Each stage's time outside of graphs, in the times' unit, without what the borders cost.

    stages: one for each lap, `NO_STAGE` if the lap's time belongs to none. times: of each lap; None
    where the border at its end was left out, and the next lap's time is that of both laps.

        stages  norm  qkv   norm  qkv        the first two laps: 10 + 30, together: 36
        times   10    30    None  36         → a border costs 4; norm 6 + 8, qkv 26 + 24
    """
    alone: dict[str, list[float]] = defaultdict(list)
    joined: list[tuple[str, str, float]] = []
    costs, before = [], ""
    for stage, time in zip(stages, times, strict=True):
        if time is None:
            before = stage
        elif before:
            joined.append((before, stage, time))
            if alone[before] and alone[stage]:
                costs.append(alone[before][-1] + alone[stage][-1] - time)
            before = ""
        elif stage != NO_STAGE:
            alone[stage].append(time)
    cost = max(0.0, trimmed_mean(costs))
    usual = {stage: statistics.median(laps) for stage, laps in alone.items() if laps}
    totals = {stage: sum(laps) - cost * len(laps) for stage, laps in alone.items()}
    for a, b, time in joined:
        first = part_of(time - cost, usual.get(a), usual.get(b), cost)
        totals[a] = totals.get(a, 0.0) + first
        totals[b] = totals.get(b, 0.0) + time - cost - first
    totals.pop(NO_STAGE, None)
    return totals


def part_of(both: float, a: float | None, b: float | None, cost: float) -> float:
    """The first lap's part of the time that two laps took together, without a border between them.

    a, b: the median time of each lap when it has a border; None if it never had one. Where both are
    known, `both` is divided in their ratio: 36 with a = 10 and b = 30 gives the first lap 9. Where
    one is known, that lap gets its median less `cost` and the other lap gets the rest.
    """
    if a is not None and b is not None:
        return both * a / max(1e-9, a + b)
    if b is not None:
        return max(0.0, both - max(0.0, b - cost))
    return both if a is None else min(both, max(0.0, a - cost))


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the smallest and largest twentieth of the values; 0 if there are none."""
    ranked, cut = sorted(values), int(TRIMMED * len(values))
    return statistics.fmean(ranked[cut : len(ranked) - cut] or [0.0])


def border_costs(full: Sequence[float], odd: Sequence[float], even: Sequence[float]) -> list[float]:
    """What each border between two laps of a graph costs, in the times' unit.

    full, odd, even: times of the laps of the three recordings; the odd one lacks the first, third,
    ... border and the even one the second, fourth, ... A graph of n laps has n - 1 such borders.
    """
    costs = []
    for index, (a, b) in enumerate(pairwise(full)):
        merged = odd[index // 2] if index % 2 == 0 else even[(index + 1) // 2]
        costs.append(a + b - merged)
    return costs
