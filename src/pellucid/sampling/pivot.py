"""Drawing tokens on a GPU without a sort; see kernels/triton/sample.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pellucid.kernels.triton.sample import choose, choose_truncated
from pellucid.request import Row
from pellucid.sampling.sampler import key


def draw_by_noise(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """One token per row from its truncated distribution, int64 [rows].

    The noise is a function of the row's seed and position, so a draw does not depend on company.
    """

    def column(values: Sequence[float | int], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=logits.device)

    params = [row.params for row in rows]
    temperatures = column([p.temperature for p in params], torch.float32)
    keys = column([key(row.seed, row.end) for row in rows], torch.int64)
    if not any(p.top_k or p.min_p or p.top_p < 1 for p in params):
        return choose(logits, temperatures, keys)
    top_k = column([min(p.top_k, 2**31 - 1) for p in params], torch.int32)
    top_p = column([p.top_p for p in params], torch.float32)
    min_p = column([p.min_p for p in params], torch.float32)
    return choose_truncated(logits, temperatures, top_k, top_p, min_p, keys)
