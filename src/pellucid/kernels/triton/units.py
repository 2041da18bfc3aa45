"""The pieces of a layer fused around each matrix, for the few rows of a small decode step.

With few rows a product is bound by reading the matrix, so whatever else it does on the
way is free, and every launch that disappears is time won: the norm moves into the product that
reads it, residual and activation into the one that makes them. Steps with more rows are composed.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from pellucid.kernels.triton.flash import on_hopper
from pellucid.kernels.triton.gemv import MAX_TOKENS, gemv, pays
from pellucid.kernels.units import Composed, Deferred, Input, Matrix, Plain, Stream

SMALL = 2**23
"""Weights of a matrix up to which its product starts early (see gemv.py): over a large one,
programs that wait for their turn only take room from those at work. Measured on an H200: with
matrices of 2 to 6 million weights (0.6B) 3 % more tokens a second, with 16 to 117 million (8B)
6 % fewer."""


class GemvUnits(Composed):
    """`kernels.units.Units`: one launch a unit where there are few rows."""

    def norm(self, stream: Stream, weight: Tensor, eps: float) -> tuple[Stream, Input]:
        if stream.branch is None and len(stream.x) <= MAX_TOKENS:
            # Read in the weights' dtype: two widths in one loop would have to change hands.
            x = stream.x.to(self.dtype) if stream.brief is None else stream.brief
            return stream, Deferred(x, weight, eps)
        return super().norm(stream, weight, eps)

    def linear(self, h: Input, matrix: Matrix) -> Tensor:
        if not fits(matrix, h):
            return super().linear(h, matrix)
        x, norm, eps = opened(h)
        return gemv(
            x, matrix.weight, bias=matrix.bias, norm=norm, eps=eps, pdl=starts_early(matrix)
        )

    def gated(self, h: Input, matrix: Matrix, activation: str) -> Tensor:
        if not fits(matrix, h):
            return super().gated(h, matrix, activation)
        x, norm, eps = opened(h)
        return gemv(
            x,
            matrix.weight,
            bias=matrix.bias,
            norm=norm,
            eps=eps,
            gated=activation,
            pdl=starts_early(matrix),
        )

    def logits(self, h: Input, matrix: Matrix, out: Tensor | None = None) -> Tensor:
        if not fits(matrix, h):
            return super().logits(h, matrix, out)
        x, norm, eps = opened(h)
        return gemv(
            x,
            matrix.weight,
            bias=matrix.bias,
            norm=norm,
            eps=eps,
            out_dtype=torch.float32,
            out=out,
            pdl=starts_early(matrix),
        )

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        if not fits(matrix, h):
            return super().add_linear(stream, h, matrix)
        brief = None
        if self.dtype != stream.x.dtype:
            brief = torch.empty(stream.x.shape, dtype=self.dtype, device=h.device)
        early = starts_early(matrix)
        x = gemv(
            h, matrix.weight, bias=matrix.bias, residual=stream.settled, brief=brief, pdl=early
        )
        return Stream(x, None, brief)


def fits(matrix: Matrix, h: Input) -> TypeGuard[Plain]:
    x = h.x if isinstance(h, Deferred) else h
    return isinstance(matrix, Plain) and pays(len(x), matrix.weight)


def starts_early(matrix: Plain) -> bool:
    return matrix.weight.numel() <= SMALL and on_hopper(matrix.weight.device)


def opened(h: Input) -> tuple[Tensor, Tensor | None, float]:
    """What is multiplied, and the norm to take of it first."""
    return (h.x, h.weight, h.eps) if isinstance(h, Deferred) else (h, None, 0.0)
