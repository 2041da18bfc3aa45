"""Flash attention one tile at a time, in plain torch: the slow twin of the walk over key tiles.

**Problem.** softmax needs the largest score of a whole line before its first exponential. Textbook
attention therefore writes all n·n scores to memory, reads them back, and writes and reads the
weights too.

**Idea.** Take BLOCK_M queries and walk over the keys BLOCK_N at a time. Each line (query) keeps its
largest score so far `peak`, the sum `total` of exp(score - peak), and `acc`, the same sum weighted
with the values. A tile that raises the peak makes all that was summed before too large, for every
term by the same factor:

    rescale = exp(peak before - peak after)
    total   = total · rescale + Σ exp(score - peak)
    acc     = acc · rescale + Σ exp(score - peak) · v

Example, one line and tiles of one key, scores 1 and 3: after the first tile peak 1, total 1. The
second raises the peak to 3: rescale = exp(-2) = 0.135, total = 0.135 + 1 = 1.135, which is
exp(1 - 3) + exp(3 - 3), as if 3 had been known from the start. At the end out = acc / total.

Tiles that no query of theirs may see are skipped: behind the diagonal, or before a sliding window.

Sources: Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

AFTER, BEFORE = "after", "before"
"""Why a tile is skipped: all its keys come after its queries, or have left their window."""


@dataclass(frozen=True, slots=True)
class TileStep:
    """One tile, and what its lines have come to behind it. L lines."""

    queries: range
    keys: range
    skipped: str
    """AFTER, BEFORE, or empty: it was computed."""
    peak: Tensor
    """[L], -inf where a line has seen nothing yet"""
    total: Tensor
    """[L]"""
    rescale: Tensor
    """[L]: what earlier sums were multiplied by; 1: they were right, 0: there were none"""
    acc: Tensor
    """[L, dim]"""

    @property
    def partial(self) -> Tensor:
        """[L, dim]: what the output would be if no key followed; 0 where nothing was seen."""
        return torch.where(self.total > 0, self.acc.T / self.total, 0.0).T


def walk_tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    block_m: int,
    block_n: int,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> Iterator[TileStep]:
    """Every tile of one head in the order of visiting, the skipped ones too, in float32.

    q [new, dim], k and v [context, dim]; query i of n sees positions 0 .. context - n + i, with
    window > 0 the last `window` of them.
    """
    num_new, context = len(q), len(k)
    for start in range(0, num_new, block_m):
        queries = range(start, min(start + block_m, num_new))
        lines = q[queries.start : queries.stop].float()
        limits = context - num_new + torch.arange(queries.start, queries.stop, device=q.device)
        peak = torch.full((len(lines),), -torch.inf, device=q.device)
        total = torch.zeros_like(peak)
        acc = torch.zeros(len(lines), v.shape[1], device=q.device)
        for begin in range(0, context, block_n):
            keys = range(begin, min(begin + block_n, context))
            skipped = _skipped(keys, context - num_new + start, len(lines), window)
            rescale = torch.ones_like(peak)
            if not skipped:
                at = slice(keys.start, keys.stop)
                scores = lines @ k[at].float().T * scale  # [L, keys]
                if softcap:
                    scores = softcap * torch.tanh(scores / softcap)
                scores = scores.masked_fill(~_seen(keys, limits, window), -torch.inf)
                before, peak = peak, torch.maximum(peak, scores.amax(1))
                base = torch.where(peak == -torch.inf, 0.0, peak)  # -inf less -inf is no number
                rescale = torch.exp(before - base)
                weights = torch.exp(scores - base[:, None])
                total = total * rescale + weights.sum(1)
                acc = acc * rescale[:, None] + weights @ v[at].float()
            yield TileStep(queries, keys, skipped, peak, total, rescale, acc)


def _skipped(keys: range, first: int, num_lines: int, window: int) -> str:
    """Why no line sees any of `keys`; the lines stand at positions from `first` on."""
    if keys.start > first + num_lines - 1:
        return AFTER
    if window and keys.stop - 1 <= first - window:
        return BEFORE
    return ""


def _seen(keys: range, limits: Tensor, window: int) -> Tensor:
    """bool [L, keys]"""
    position = torch.arange(keys.start, keys.stop, device=limits.device)[None, :]
    seen = position <= limits[:, None]
    return seen & (position > limits[:, None] - window) if window else seen
