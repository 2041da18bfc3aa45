"""Linear layers with expanded weights: the off form.

Every weight is a plain number in the activations' dtype and torch multiplies. Blocks are expanded
once, on load; a file of 4-bit blocks then takes seven times its size in float32.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F

from pellucid.kernels.matrix import Matrix, PlainOperand
from pellucid.quant.method import Embedding
from pellucid.quant.weight import StoredWeight


def expand(weight: StoredWeight, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The numbers of `weight` on `device`; what is stored travels, and is expanded there."""
    return weight.to(device).dense(dtype)


class Dense:
    """The `WeightMethod` that takes every weight."""

    def why_not_on(self, device: torch.device) -> str:
        return ""

    def why_not(self, weight: StoredWeight) -> str:
        return ""

    def joins(self, weight: StoredWeight) -> Hashable:
        return None  # once expanded, all are alike

    def linear(
        self,
        parts: Sequence[StoredWeight],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> DenseLinear:
        weights = [expand(part, dtype, device) for part in parts]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        return DenseLinear(weight, None if bias is None else bias.to(device, dtype))

    def embedding(
        self, weight: StoredWeight, dtype: torch.dtype, device: torch.device
    ) -> DenseEmbedding:
        return DenseEmbedding(expand(weight, dtype, device), weight)


SLICE = 1 << 22
"""Weights widened to float32 at a time."""


class DenseLinear(Matrix):
    """x · Wᵀ + bias with W [n, k] as it is."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)

    @property
    def nbytes(self) -> int:
        return self.weight.numel() * self.weight.element_size()

    @property
    def operand(self) -> PlainOperand:
        return PlainOperand(self.weight, self.bias)

    def float32(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        if x.dtype == torch.float32:
            return super().float32(x, out)
        if self._widens(x):
            return torch.mm(x, self.weight.T, out_dtype=torch.float32, out=out)
        return self._in_slices(x.float(), out)

    def add_to(self, total: torch.Tensor, x: torch.Tensor) -> bool:
        if not self._widens(x):
            return False
        torch.addmm(total, x, self.weight.T, torch.float32, out=total)
        return True

    def _in_slices(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        """The product in float32 where torch would round it: a slice of W after the other is
        widened. On a CPU, only a head in float16 or without a C compiler comes here
        (`linear.head_method`)."""
        if out is None:
            out = x.new_empty(len(x), len(self.weight))
        step = max(1, SLICE // self.weight.shape[1])
        for first in range(0, len(self.weight), step):
            rows = slice(first, first + step)
            bias = None if self.bias is None else self.bias[rows].float()
            out[:, rows] = F.linear(x, self.weight[rows].float(), bias)
        return out

    def _widens(self, x: torch.Tensor) -> bool:
        """Whether torch can multiply into float32 here: 16-bit operands on a GPU."""
        return x.is_cuda and x.dtype != torch.float32 and self.bias is None


class DenseEmbedding(Embedding):
    """W as numbers."""

    def __init__(self, weight: torch.Tensor, source: StoredWeight) -> None:
        self.weight = weight
        self.source = source  # kept alive, so that its identity stays its own

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight)

    def head(self, bias: torch.Tensor | None) -> DenseLinear:
        weight = self.weight
        return DenseLinear(weight, None if bias is None else bias.to(weight.device, weight.dtype))
