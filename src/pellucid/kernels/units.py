"""The units of a decoder layer: a matrix product with the small steps around it, as one call.

A layer is two branches that each read the residual, compute something and add it to the residual.
What lies between two matrices (add, norm, activation) can be a kernel of its own, or part of the
matrix product before or after it:

    composed   add + norm │ matrix │ ... │ matrix │ add + norm │ matrix │ activation │ matrix
    fused      [norm · matrix] │ ... │ [matrix + residual] │ [norm · matrix · activation] │ ...

The decoder calls a unit and does not know which of the two it gets. `Composed`, here, computes each
step by itself and leaves the addition of a branch to the next norm. `kernels/triton/units.py` fuses
where a step has few tokens and the matrix has a kernel for that.

A unit that computes the norm by itself says on the clock that the stage `norm` ends there. Where
the norm is part of the product, its time belongs to the product's stage.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pellucid.kernels.matrix import Matrix
from pellucid.kernels.ops import Ops
from pellucid.stages import Clock


class Stream(NamedTuple):
    """The residual on its way through the layers, T tokens.

    It is float32 whatever the model's dtype is: every layer adds to it twice, and in bf16 each sum
    would lose what is below a 256th of it. Logits are float32 for the same reason: from 16 to 32,
    bf16 knows steps of an eighth. With both, greedy answers in bf16 leave those in float32 only
    where the best two tokens are almost equal (tests/model/test_golden.py).
    """

    x: Tensor
    """float32 [T, hidden]"""
    branch: Tensor | None = None
    """A branch's result that is not added to x yet, [T, hidden]."""
    rounded: Tensor | None = None
    """x in the model's dtype, if a kernel wrote that too."""

    @property
    def total(self) -> Tensor:
        """The residual with the branch added."""
        return self.x if self.branch is None else self.x + self.branch


class Norm(NamedTuple):
    """An RMSNorm: x / sqrt(mean(x²) + eps) · weight."""

    weight: Tensor
    """float32 [dim]"""
    eps: float


class Units(Protocol):
    """What a decoder layer is made of, besides rotation and attention."""

    @property
    def ops(self) -> Ops:
        """The small steps that the units are composed of."""

    def norm_linear(
        self, stream: Stream, norm: Norm, matrix: Matrix, clock: Clock
    ) -> tuple[Stream, Tensor]:
        """The residual with its branch added, and matrix(norm(residual)), [T, out]."""

    def norm_gated(
        self, stream: Stream, norm: Norm, matrix: Matrix, activation: str, clock: Clock
    ) -> tuple[Stream, Tensor]:
        """The same with act(gate) · up of the product, whose halves are gate and up: [T, out/2].

        activation: silu or gelu_tanh."""

    def norm_logits(
        self, stream: Stream, norm: Norm, matrix: Matrix, clock: Clock, out: Tensor | None = None
    ) -> Tensor:
        """matrix(norm(residual)) in float32, [T, out]; written to `out`, if given."""

    def linear(self, h: Tensor, matrix: Matrix) -> Tensor:
        """matrix(h), [T, out]."""

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        """The residual with matrix(h) added to it, or left for the next norm to add."""


ADD_INSIDE_FROM = 1024
"""Tokens from which the product itself adds to the residual, so that the branch is never written
down. On an H100, prefills of an 8B model in turns, medians of six: 457.8 ms instead of 460.8 for
16,000 tokens, 209.0 instead of 209.5 for 8,192. (By the bytes it could have been 11 ms of the 461;
the product that adds is itself slower.)"""


class Composed:
    """Off: each unit is a matrix product with the small steps before and after it."""

    def __init__(self, ops: Ops, dtype: torch.dtype) -> None:
        """dtype: of what the matrices take."""
        self.ops = ops
        self.dtype = dtype

    def norm_linear(
        self, stream: Stream, norm: Norm, matrix: Matrix, clock: Clock
    ) -> tuple[Stream, Tensor]:
        stream, h = self.normed(stream, norm, clock)
        return stream, self.linear(h, matrix)

    def norm_gated(
        self, stream: Stream, norm: Norm, matrix: Matrix, activation: str, clock: Clock
    ) -> tuple[Stream, Tensor]:
        stream, h = self.normed(stream, norm, clock)
        return stream, self.gated(h, matrix, activation)

    def norm_logits(
        self, stream: Stream, norm: Norm, matrix: Matrix, clock: Clock, out: Tensor | None = None
    ) -> Tensor:
        _, h = self.normed(stream, norm, clock)
        return self.logits(h, matrix, out)

    def normed(self, stream: Stream, norm: Norm, clock: Clock) -> tuple[Stream, Tensor]:
        """The residual with its branch added, and the norm of it. Ends the stage `norm`."""
        if stream.branch is None:
            h = self.ops.norm(stream.x, norm.weight, norm.eps, self.dtype)
        else:
            x, h = self.ops.add_norm(stream.x, stream.branch, norm.weight, norm.eps)
            stream = Stream(x)
        clock.lap("norm")
        return stream, h

    def linear(self, h: Tensor, matrix: Matrix) -> Tensor:
        return matrix(h)

    def gated(self, h: Tensor, matrix: Matrix, activation: str) -> Tensor:
        return self.ops.gated(matrix(h), activation)

    def logits(self, h: Tensor, matrix: Matrix, out: Tensor | None = None) -> Tensor:
        return matrix.float32(h, out)

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        total = stream.total  # ours alone: nobody keeps an earlier residual
        if len(h) >= ADD_INSIDE_FROM and matrix.add_to(total, h):
            return Stream(total)
        return Stream(total, matrix(h))
