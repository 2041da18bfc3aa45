"""Linear layers with expanded weights: the off form.

Every weight is a plain number in the activations' dtype and torch multiplies. Blocks are expanded
once, on load; a file of 4-bit blocks then takes seven times its size in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from pellucid.quant.tensor import WeightTensor


def expand(part: WeightTensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The numbers of `part` on `device`; blocks travel as they are and are expanded there."""
    data = part.data.to(device)
    return WeightTensor(part.name, part.kind, part.shape, data).dense(dtype)


class DenseLinear:
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


class DenseEmbedding:
    """Rows of W [vocab, hidden] by token id."""

    def __init__(self, weight: torch.Tensor, source: torch.Tensor) -> None:
        self.weight = weight
        self.source = source  # held, so that its address stays the name of this weight

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight)
