"""From what length on attention stops being negligible: one number, with its doubt.

    share(S) = t_attention(S) / t_step(S)
    S_p      = the least S with share ≥ p for it and all longer ones, up to a limit

p is 5 % (visible), 10 % (no longer negligible) and 50 % (dominant). There need be no such S:

    found             it lies in the range that was looked at
    already at N      the share is p or more at all lengths that were looked at, N the shortest
    never up to N     a sliding window, say, holds the share below p
    extrapolated      it lies beyond the measured lengths; a line was drawn out to it

Modelled, the share is a function, and bisection finds where it crosses p; the band is where it
would cross if attention took as long as the cost model's error allows and the rest as little, and
the other way round.

Measured, the share is a cloud of samples at a few lengths. Where starting kernels is all that short
prompts cost it falls, behind that it rises; noise is the only reason for anything else. So the
medians are replaced by the nearest that fall and then rise (pool adjacent violators, on both sides
of the best turn), joined by a monotone cubic over log₂ S, and crossed with p for the last time. How
far to trust it comes from the blocks of the measurement: draw as many blocks as there are with
replacement, find the crossing again, and of a thousand such take the middle 95 %.
Beyond the lengths the odds share / (1 - share) are drawn out as a line: in decoding attention grows
with S and the rest stays, in a prompt it grows with S² and the rest with S.

Sources: Ayer et al. 1955 (pool adjacent violators); Fritsch & Butland 1984, doi:10.1137/0905021
(the slopes of the cubic); Efron 1979 (bootstrap).
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from pellucid.explore import runfile
from pellucid.explore.roofline import Hardware

PARTS = {"s05": 0.05, "s10": 0.10, "s50": 0.50}
"""Shares that are looked for, by their names in JSON."""
NUM_RESAMPLES = 1000
NUM_DRAWN_OUT = 3
"""Lengths at the end of the range that a line is drawn through to get beyond it."""
STEPS_PER_OCTAVE = 4
"""How finely the modelled share is looked at for a dip behind the crossing."""

Kind = Literal["measured", "recorded", "calibrated", "spec"]
Curve = Callable[[float], float]
Seconds = Callable[[int], Mapping[str, float]]
"""From a length to the seconds of each stage."""
Share = Callable[[int], float]


class Estimate(NamedTuple):
    """A length in tokens, None if there is none, and the doubt about it."""

    value: int | None
    lo: int | None
    hi: int | None
    """None: beyond the limit, or not known."""
    kind: Kind
    status: str


class Crossing(NamedTuple):
    value: int | None
    status: str


def never(limit: int) -> Crossing:
    return Crossing(None, f"never up to {limit}")


def already(shortest: int) -> Crossing:
    return Crossing(shortest, f"already at {shortest}")


# Modelled


def modelled(seconds: Seconds, hardware: Hardware, limit: int) -> dict[str, Estimate]:
    """The crossings of modelled seconds, by the names in `PARTS`; limit: tokens looked at."""
    likely = share_curve(seconds, 1.0, 1.0)
    early = share_curve(seconds, hardware.slowest, hardware.fastest)
    late = share_curve(seconds, hardware.fastest, hardware.slowest)
    answers = {}
    for name, part in PARTS.items():
        found = crossing(likely, part, limit)
        lo, hi = crossing(early, part, limit).value, crossing(late, part, limit).value
        answers[name] = Estimate(found.value, lo, hi, hardware.kind, found.status)
    return answers


def read_off(curve: Mapping[int, Mapping[str, float]], kind: Kind) -> dict[str, Estimate]:
    """The same of seconds that are known at some lengths, the limit among them, without a band.

    Between two lengths the odds share / (1 - share) lie on a line in their logarithms.
    """
    share = share_curve(curve.__getitem__, 1.0, 1.0)
    lengths = sorted(curve)
    answers = {}
    for name, part in PARTS.items():
        below = [i for i, length in enumerate(lengths) if share(length) < part]
        if not below:
            found = already(lengths[0])
        elif below[-1] == len(lengths) - 1:
            found = never(lengths[-1])
        else:
            ends = lengths[below[-1]], lengths[below[-1] + 1]
            low, high = (math.log(share(n) / (1 - share(n)) + 1e-9) for n in ends)
            way = (math.log(part / (1 - part)) - low) / (high - low)
            found = Crossing(math.ceil(ends[0] * (ends[1] / ends[0]) ** way - 1e-9), "found")
        answers[name] = Estimate(found.value, None, None, kind, found.status)
    return answers


def share_curve(seconds: Seconds, attention: float, rest: float) -> Share:
    """Attention's share by length, with attention's time multiplied by `attention` and the time of
    all other stages by `rest`."""

    def share(length: int) -> float:
        found = seconds(length)
        mine = found["attention"]
        others = sum(found.values()) - mine
        return mine * attention / (mine * attention + others * rest)

    return share


def crossing(share: Share, part: float, limit: int) -> Crossing:
    """S_p of a function of integers: the shortest length from which the share stays at `part` or
    more. Goes down a grid from `limit` to the first length whose share is below, and bisects there.
    """
    above = None
    for length in reversed(grid(limit)):
        if share(length) < part:
            return never(limit) if above is None else bisected(share, part, length, above)
        above = length
    return already(1)


def grid(limit: int) -> list[int]:
    """Lengths from 1 to `limit`, four to each octave."""
    num_steps = int(STEPS_PER_OCTAVE * math.log2(limit))
    steps = {round(2 ** (i / STEPS_PER_OCTAVE)) for i in range(num_steps + 1)}
    return sorted(steps | {limit})


def bisected(share: Share, part: float, below: int, above: int) -> Crossing:
    """The crossing between a length whose share is below `part` and a longer one's that is not."""
    while above - below > 1:
        middle = (below + above) // 2
        if share(middle) < part:
            below = middle
        else:
            above = middle
    return Crossing(above, "found")


# Measured


def samples_of(run: runfile.Record, phase: str, batch: int) -> dict[int, list[float]]:
    """Length → attention's share in each block, of a run's cells of one phase and batch."""
    return {
        cell["length"]: runfile.shares(cell, "attention")
        for cell in run["cells"]
        if (cell["phase"], cell["batch"]) == (phase, batch)
    }


def measured(
    samples: Mapping[int, Sequence[float]], kind: Kind, limit: int, seed: int = 0
) -> dict[str, Estimate]:
    """The crossings of measured shares, by the names in `PARTS`.

    samples: length → share in each block, the same blocks at every length; at least two lengths.
    """
    lengths = sorted(samples)
    blocks = list(zip(*(samples[length] for length in lengths), strict=True))
    draw = random.Random(seed)
    curves = [
        medians(draw.choices(blocks, k=len(blocks)))
        for _ in range(NUM_RESAMPLES if len(blocks) > 1 else 0)
    ]
    answers = {}
    for name, part in PARTS.items():
        found = crossing_of_points(lengths, medians(blocks), part, limit)
        others = [crossing_of_points(lengths, curve, part, limit).value for curve in curves]
        answers[name] = Estimate(found.value, *middle_95(others), kind, found.status)
    return answers


def medians(blocks: Sequence[Sequence[float]]) -> list[float]:
    """Median shares that fall and then rise, one per length. blocks: [blocks][lengths]."""
    return valley([statistics.median(column) for column in zip(*blocks, strict=True)])


def middle_95(values: Sequence[int | None]) -> tuple[int | None, int | None]:
    """The middle 95 %; None counts as beyond all others."""
    if not values:
        return None, None
    ranked = sorted(values, key=lambda value: math.inf if value is None else value)
    margin = int(0.025 * len(ranked))
    return ranked[margin], ranked[-1 - margin]


def crossing_of_points(
    lengths: Sequence[int], shares: Sequence[float], part: float, limit: int
) -> Crossing:
    """S_p of shares that rise with their lengths, perhaps after a fall."""
    if min(shares) >= part:
        return already(lengths[0])
    if shares[-1] < part:
        return drawn_out(lengths, shares, part, limit)
    logs = [math.log2(length) for length in lengths]
    curve = monotone_cubic(logs, shares)
    below = max(i for i, share in enumerate(shares) if share < part)
    lo, hi = logs[below], logs[below + 1]
    for _ in range(50):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if curve(middle) < part else (lo, middle)
    return Crossing(math.ceil(2**hi - 1e-6), "found")


def drawn_out(lengths: Sequence[int], shares: Sequence[float], part: float, limit: int) -> Crossing:
    """S_p beyond the measured lengths: the odds share / (1 - share) of the last three lie on a
    line, which is followed to the odds of `part`."""
    nearest = slice(-NUM_DRAWN_OUT, None)
    odds = [share / max(1 - share, 1e-9) for share in shares[nearest]]
    slope, start = statistics.linear_regression(lengths[nearest], odds)
    length = math.ceil((part / (1 - part) - start) / slope) if slope > 0 else limit + 1
    return never(limit) if length > limit else Crossing(max(length, lengths[-1]), "extrapolated")


def valley(values: Sequence[float]) -> list[float]:
    """The nearest sequence (least squares) that falls up to some place and rises from there on."""

    def error(fit: Sequence[float]) -> float:
        return sum((a - b) ** 2 for a, b in zip(values, fit, strict=True))

    fits = [
        [*isotonic(values[:turn][::-1])[::-1], *isotonic(values[turn:])]
        for turn in range(len(values))
    ]
    return min(fits, key=error)


def isotonic(values: Sequence[float]) -> list[float]:
    """The nearest sequence (least squares) that never falls: pool adjacent violators."""
    pools: list[tuple[float, int]] = []  # mean, how many
    for value in values:
        pool = (value, 1)
        while pools and pools[-1][0] > pool[0]:
            (a, m), (b, n) = pools.pop(), pool
            pool = ((a * m + b * n) / (m + n), m + n)
        pools.append(pool)
    return [mean for mean, count in pools for _ in range(count)]


def monotone_cubic(x: Sequence[float], y: Sequence[float]) -> Curve:
    """A smooth curve through the points that rises and falls only where they do (PCHIP)."""
    widths = [b - a for a, b in pairwise(x)]
    rises = [(b - a) / width for (a, b), width in zip(pairwise(y), widths, strict=True)]
    inner = [
        mean_slope(*pair, *sizes)
        for pair, sizes in zip(pairwise(rises), pairwise(widths), strict=True)
    ]
    slopes = [rises[0], *inner, rises[-1]]

    def curve(at: float) -> float:
        i = max(0, min(len(widths) - 1, sum(point <= at for point in x) - 1))
        t, width = (at - x[i]) / widths[i], widths[i]
        turn = t * t * (3 - 2 * t)
        bend = t * (1 - t) * ((1 - t) * slopes[i] - t * slopes[i + 1])
        return y[i] + turn * (y[i + 1] - y[i]) + width * bend

    return curve


def mean_slope(before: float, after: float, width: float, next_width: float) -> float:
    """The slope at a point between two pieces: their weighted harmonic mean, 0 at a turn."""
    if before * after <= 0:
        return 0.0
    a, b = width + 2 * next_width, 2 * width + next_width
    return (a + b) / (a / before + b / after)
