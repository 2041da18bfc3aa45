"""Flash attention step by step on one head of the running model, with its bill in bytes.

The walk itself is `kernels/reference/tiles.py`, on the head's own q, k and v. Beside each tile
stand the bytes that have been moved so far, modelled and not measured, for two ways:

* in tiles: a tile of queries is read once and its output written once; each tile of keys that is
  visited is read with its values. Scores never leave the chip.
* written out: q, k and v are read and the output is written once, and every score of the square,
  seen or not, is moved four times: written, read by the softmax, written as a weight, read again.

Example: 256 queries and keys of 64 numbers, float32, tiles of 64 × 64. In tiles 10 of 16 are
visited: 4 · (64 + 64) · 64 · 4 bytes for queries and outputs and 10 · 2 · 64 · 64 · 4 for keys and
values, 459 kB together; written out 4 · 65,536 · 4 bytes of scores and 262 kB more, 1,311 kB. With
tiles of 16 queries the first way reads its keys four times as often: it lives on large tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pellucid.attention.recording import AttendedLayer
from pellucid.errors import InputError
from pellucid.explore.heads import SCORE_BYTES, rounded
from pellucid.kernels.reference.tiles import TileStep, walk_tiles

MOST_TILES = 4096
SCORE_PASSES = 4
TARGET = 8
"""Tiles along an edge, if neither the reader nor the kernel says otherwise."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """Queries and keys of a tile, and where these numbers come from."""

    block_m: int
    block_n: int
    source: str
    """chosen by the reader, the kernel's, or even: about TARGET along an edge"""
    kernel: dict[str, int] | None
    """Of the kernel that ran, if it has said so"""


def walk(
    attended: AttendedLayer, weights: torch.Tensor, head: int, row: int, tiling: Tiling
) -> dict[str, Any]:
    """All tiles of `head`, and the course of query `row`. weights [n, n]: by plain softmax."""
    q, out = attended.q[:, head], attended.out[:, head].float()
    kv_head = head // (attended.q.shape[1] // len(attended.k))
    k, v, shape = attended.k[kv_head], attended.v[kv_head], attended.shape
    walked = walk_tiles(
        q,
        k,
        v,
        block_m=tiling.block_m,
        block_n=tiling.block_n,
        scale=shape.scale,
        window=shape.window,
        softcap=shape.softcap,
    )
    steps = list(walked)
    across = -(-len(k) // tiling.block_n)
    found = torch.cat([step.partial for step in steps[across - 1 :: across]])
    bytes_tiled, bytes_written = bill(steps, q.shape[1], q.dtype.itemsize)
    return {
        "block_m": tiling.block_m,
        "block_n": tiling.block_n,
        "source": tiling.source,
        "kernel": tiling.kernel,
        "tiles": [as_lists(step) for step in steps],
        "bytes_tiled": bytes_tiled,
        "bytes_written": bytes_written,
        "row": row,
        "course": [course(step, row) for step in steps if row in step.queries],
        "error": (found - weights @ v.float()).abs().max().item(),
        "error_to_backend": (found - out).abs().max().item(),
    }


def choose(
    num: int, block_m: int, block_n: int, lines: tuple[int, int] | None, group: int
) -> Tiling:
    """What the reader wants; else what the kernel has; else about TARGET tiles along an edge.

    lines: lines and positions of a tile of the kernel that ran, if it has said so. Its lines belong
    to all `group` heads of a KV head.
    """
    kernel = lines and {"lines": lines[0], "queries": max(1, lines[0] // group), "keys": lines[1]}
    even = 1 << max(2, (-(-num // TARGET) - 1).bit_length())
    auto_m, auto_n = (kernel["queries"], kernel["keys"]) if kernel else (even, even)
    source = "chosen" if block_m or block_n else "kernel" if kernel else "even"
    tiling = Tiling(block_m or auto_m, block_n or auto_n, source, kernel)
    count = -(-num // tiling.block_m) * -(-num // tiling.block_n)
    if count > MOST_TILES:
        raise InputError(
            f"tiles of {tiling.block_m} × {tiling.block_n} cut this text into {count:,}, and at "
            f"most {MOST_TILES:,} are shown: take larger ones",
            param="block_n" if tiling.block_n < tiling.block_m else "block_m",
        )
    return tiling


def bill(steps: Sequence[TileStep], dim: int, itemsize: int) -> tuple[list[int], list[int]]:
    """Bytes moved up to and with each tile: in tiles, and written out."""
    tiled, written, found = 0, 0, list[tuple[int, int]]()
    for step in steps:
        if step.keys.start == 0:  # queries come with the first tile; their output is counted too
            lines = 2 * len(step.queries) * dim * itemsize
            tiled, written = tiled + lines, written + lines
        keys = 2 * len(step.keys) * dim * itemsize
        if not step.skipped:
            tiled += keys
        if step.queries.start == 0:
            written += keys
        written += SCORE_PASSES * SCORE_BYTES * len(step.queries) * len(step.keys)
        found.append((tiled, written))
    return [pair[0] for pair in found], [pair[1] for pair in found]


def as_lists(step: TileStep) -> dict[str, Any]:
    """A tile and its lines; a line that has seen nothing has no peak."""
    place = {"queries": ends(step.queries), "keys": ends(step.keys), "skipped": step.skipped}
    if step.skipped:
        return place
    return place | {
        "peak": list(finite(step.peak)),
        "total": rounded(step.total, 6),
        "rescale": rounded(step.rescale, 6),
        "norm": rounded(step.partial.norm(dim=1), 6),
    }


def course(step: TileStep, row: int) -> dict[str, Any]:
    """The state of query `row` behind a tile, with its partial output."""
    line = row - step.queries.start
    return {
        "keys": ends(step.keys),
        "skipped": step.skipped,
        "peak": next(finite(step.peak[line : line + 1])),
        "total": step.total[line].item(),
        "rescale": step.rescale[line].item(),
        "partial": rounded(step.partial[line], 6),
    }


def ends(span: range) -> tuple[int, int]:
    """First, and the one behind the last."""
    return span.start, span.stop


def finite(numbers: torch.Tensor) -> Iterator[float | None]:
    return (None if number == -torch.inf else number for number in rounded(numbers, 6))
