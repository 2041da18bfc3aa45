"""A head's attention weights, made small enough to be looked at.

All of it takes weights as `attention/naive.py` has them: float32, rows sum to 1, and exact zeros
where a query sees nothing (what comes later, and what has left a sliding window).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_max_pool2d

from pellucid.attention.paged import visible
from pellucid.model.spec import ModelSpec

MOST_CELLS = 256
"""Of a picture's edge; a longer text is shown in tiles of several tokens."""
THUMBNAIL = 24
"""Cells of a small picture's edge at most."""
NUM_SHOWN = 8
"""Keys of a query that are named."""
LENGTHS = (1024, 4096, 16_384, 65_536)
"""For which costs are given beside the text's own."""
SCORE_BYTES = 4
"""Scores are float32, whatever the model's numbers are."""


def rounded(tensor: torch.Tensor, decimals: int = 7) -> list[Any]:
    """As lists, without digits that mean nothing."""
    found: list[Any] = np.round(tensor.double().cpu().numpy(), decimals).tolist()
    return found


def picture(weights: torch.Tensor, window: int) -> dict[str, Any]:
    """The matrix [n, n] as rows that end with what the query sees: row i has i + 1 numbers.

    Beyond MOST_CELLS tokens a number stands for a tile of `edge` queries and `edge` keys: the
    largest weight (`max`), and the mean of those pairs that are seen (`mean`).
    """
    num = len(weights)
    edge = -(-num // MOST_CELLS)
    if edge == 1:
        return {"edge": 1, "max": _triangle(weights), "mean": None}
    short = -num % edge
    seen = visible(num, num, 0, window, weights.device).float()
    padded = [torch.nn.functional.pad(each, (0, short, 0, short)) for each in (weights, seen)]
    cells = (num + short) // edge
    tiles, counts = (each.view(cells, edge, cells, edge) for each in padded)
    largest = tiles.amax((1, 3))  # [cells, cells]
    mean = tiles.sum((1, 3)) / counts.sum((1, 3)).clamp(min=1)
    return {"edge": edge, "max": _triangle(largest), "mean": _triangle(mean)}


def _triangle(matrix: torch.Tensor) -> list[list[float]]:
    return [row[: i + 1] for i, row in enumerate(rounded(matrix))]


def top(weights: torch.Tensor, most: int) -> list[list[tuple[int, float]]]:
    """Of each query the keys that it takes most of, best first: (position, weight)."""
    values, places = weights.topk(min(most, weights.shape[1]), dim=1)
    return [
        [(place, value) for place, value in zip(*row, strict=True) if value > 0]
        for row in zip(places.tolist(), rounded(values), strict=True)
    ]


def mass(weights: torch.Tensor) -> dict[str, Any]:
    """How much weight goes how far back. Distances 0, 1, 2–3, 4–7, … : `starts` says where each
    begins; `rows` has it query by query, `mean` over all queries."""
    num = len(weights)
    starts = [0, *(1 << power for power in range(max(num - 1, 0).bit_length()))]
    position = torch.arange(num, device=weights.device)
    distance = (position[:, None] - position[None, :]).clamp(min=0)  # what is later weighs nothing
    borders = torch.tensor(starts[1:], device=weights.device)
    bucket = torch.bucketize(distance, borders, right=True)
    rows = torch.zeros(num, len(starts), device=weights.device).scatter_add_(1, bucket, weights)
    return {"starts": starts, "rows": rounded(rows, 5), "mean": rounded(rows.mean(0), 5)}


def thumbnails(weights: torch.Tensor) -> dict[str, Any]:
    """Every head of a layer as `edge`·`edge` bytes, row by row: of each cell its largest weight w
    as 255·√w, for most weights are small. Beside it the mean share of the first token."""
    edge = min(THUMBNAIL, weights.shape[1])
    cells = adaptive_max_pool2d(weights[None], edge)[0]
    small = (255 * cells.sqrt()).round().to(torch.uint8).cpu().numpy()
    later = weights[:, 1:, 0] if weights.shape[1] > 1 else weights[:, :, 0]
    return {
        "edge": edge,
        "heads": [head.tobytes() for head in small],
        "first": rounded(later.mean(1), 5),
    }


def costs(spec: ModelSpec, num_tokens: int) -> list[dict[str, int]]:
    """What writing the scores would take, by length, beside what flash attention keeps.

    Textbook attention has n·n scores a head, and keeps those of one layer's heads at a time. Flash
    keeps three things a query and head: the peak, the total, and the sum of values.
    """
    kept = SCORE_BYTES * (2 + spec.head_dim)
    return [
        {
            "length": length,
            "scores": length * length,
            "head_bytes": length * length * SCORE_BYTES,
            "layer_bytes": length * length * SCORE_BYTES * spec.num_heads,
            "model_bytes": length * length * SCORE_BYTES * spec.num_heads * spec.num_layers,
            "flash_bytes": length * kept * spec.num_heads,
        }
        for length in sorted({num_tokens, *LENGTHS})
    ]
