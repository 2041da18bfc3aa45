"""Linear layers with expanded weights: the off form.

Every weight is a plain number in the activations' dtype and torch multiplies. Blocks are expanded
once, on load; a file of 4-bit blocks then takes seven times its size in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from pellucid.kernels.matrix import Matrix, PlainOperand
from pellucid.quant.tensor import WeightTensor


def expand(part: WeightTensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The numbers of `part` on `device`; blocks travel as they are and are expanded there."""
    data = part.data.to(device)
    return WeightTensor(part.name, part.kind, part.shape, data).dense(dtype)


class DenseLinear(Matrix):
    """x · Wᵀ + bias with W [n, k] as it is."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    @classmethod
    def of(
        cls,
        parts: Sequence[WeightTensor],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> DenseLinear:
        """One matrix of all `parts`, rows one behind the other."""
        weights = [expand(part, dtype, device) for part in parts]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        return cls(weight, None if bias is None else bias.to(device, dtype))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)

    @property
    def nbytes(self) -> int:
        return self.weight.numel() * self.weight.element_size()

    @property
    def operand(self) -> PlainOperand:
        return PlainOperand(self.weight, self.bias)

    def float32(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        if not self._widens(x):
            return super().float32(x, out)
        return torch.mm(x, self.weight.T, out_dtype=torch.float32, out=out)

    def add_to(self, total: torch.Tensor, x: torch.Tensor) -> bool:
        if not self._widens(x):
            return False
        torch.addmm(total, x, self.weight.T, torch.float32, out=total)
        return True

    def _widens(self, x: torch.Tensor) -> bool:
        """Whether torch can multiply into float32 here: 16-bit operands on a GPU."""
        return x.is_cuda and x.dtype != torch.float32 and self.bias is None


class DenseEmbedding:
    """Rows of W [vocab, hidden] by token id."""

    def __init__(self, weight: torch.Tensor, source: torch.Tensor) -> None:
        self.weight = weight
        self.source = source  # held, so that its address stays the name of this weight

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight)
