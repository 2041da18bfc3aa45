"""Which matrices have a product of few tokens with everything around it in one launch.

A matrix hands over its tensors as an `Operand`; the operand's class decides which kernel multiplies
them. To give another kind of weight a fused product (fp8 with a scale for each row, 4 bits with one
for each group), write its kernel, a class like `PlainProduct` around it, and a case in
`fused_product`. The units need not know of it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pellucid.kernels.matrix import Operand, PlainOperand
from pellucid.kernels.triton.flash import has_copy_engine
from pellucid.kernels.triton.gemv import gemv, pays
from pellucid.kernels.units import Norm

SMALL = 2**23
"""Weights of a matrix up to which its product starts early (see gemv.py): over a large one,
programs that wait for their turn only take room from those at work. Measured on an H200: with
matrices of 2 to 6 million weights (0.6B) 3 % more tokens a second, with 16 to 117 million (8B)
6 % fewer."""


class FusedProduct(Protocol):
    """act(matrix(norm(x))) + residual, in one launch."""

    def pays(self, num_tokens: int) -> bool:
        """Whether it can take so many tokens, and is faster than the steps one by one."""

    def __call__(
        self,
        x: Tensor,
        *,
        norm: Norm | None = None,
        gated: str = "",
        residual: Tensor | None = None,
        rounded: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """x [T, in] → [T, out], or [T, out/2] if gated (silu or gelu_tanh).

        residual: float32 [T, out], added; rounded: filled with the result in its own dtype;
        out_dtype: of the result, if neither the residual's nor the matrix's; out: to write to.
        """


class PlainProduct:
    """Plain numbers, by `gemv`."""

    def __init__(self, operand: PlainOperand) -> None:
        self._weight = operand.weight
        self._bias = operand.bias

    def pays(self, num_tokens: int) -> bool:
        return pays(num_tokens, self._weight)

    def __call__(
        self,
        x: Tensor,
        *,
        norm: Norm | None = None,
        gated: str = "",
        residual: Tensor | None = None,
        rounded: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        weight = self._weight
        return gemv(
            x,
            weight,
            bias=self._bias,
            norm=None if norm is None else norm.weight,
            eps=0.0 if norm is None else norm.eps,
            gated=gated,
            residual=residual,
            rounded=rounded,
            out_dtype=out_dtype,
            out=out,
            pdl=weight.numel() <= SMALL and has_copy_engine(weight.device),
        )


def fused_product(operand: Operand | None) -> FusedProduct | None:
    """The product of a matrix with these tensors; None if no kernel here knows them."""
    match operand:
        case PlainOperand():
            return PlainProduct(operand)
    return None
