"""Drawing on a GPU by our own kernels: no sort, no softmax in memory; see
kernels/triton/sample.py."""

from __future__ import annotations

from torch import Tensor

from pellucid.kernels.columns import Column
from pellucid.kernels.triton.adjust import adjust
from pellucid.kernels.triton.sample import choose, choose_truncated, largest_logits
from pellucid.sampling.sampler import Rows


class Pivot:
    """`sampler.Method` in Triton."""

    adjust = staticmethod(adjust)

    def draw(self, logits: Tensor, rows: Rows, truncated: bool) -> Tensor:
        temperature = rows.floats(Column.TEMPERATURE)
        if not truncated:
            return choose(logits, temperature, rows.keys)
        return choose_truncated(
            logits,
            temperature,
            rows.settings[Column.TOP_K],
            rows.floats(Column.TOP_P),
            rows.floats(Column.MIN_P),
            rows.keys,
        )

    def best(self, logits: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
        return largest_logits(logits, num_top)
