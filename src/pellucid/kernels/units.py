"""The pieces of a layer that can become one kernel: composed, or fused around each matrix.

A decoder layer is two branches that each read the residual, do something and add their result to
it. What lies between two matrices (add, norm, activation) can go into a kernel of its own or into
the matrix product before or after it:

    composed   add + norm │ matrix │ ... │ matrix │ add + norm │ matrix │ activation │ matrix
    fused      [norm · matrix] │ ... │ [matrix + residual] │ [norm · matrix · activation] │ ...

So two things may stay open for the next unit to finish. A `Stream` is the residual and perhaps a
branch that is not yet added to it; a `Deferred` is a norm that is not yet taken. `Composed` adds
late and norms at once, `kernels/triton/gemv.py` adds at once and norms late; the decoder is written
once over both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from pellucid.kernels.ops import Ops


class Stream(NamedTuple):
    """The residual on its way through the layers, T tokens.

    It is float32 whatever the model's dtype is: every layer adds to it twice, and in bf16 each sum
    would lose what is below a 256th of it. Logits are float32 for the same reason: from 16 to 32,
    bf16 knows steps of an eighth. With both, greedy answers in bf16 leave those in float32 only
    where the best two tokens are almost equal (tests/model/test_golden.py). (On a CPU the product
    of two bf16 operands still rounds the logits; torch cannot widen them there.)
    """

    x: Tensor
    """float32 [T, hidden]"""
    branch: Tensor | None = None
    """What is still to be added to it, [T, hidden]."""
    brief: Tensor | None = None
    """x in the model's dtype, if that was made on the way."""

    @property
    def settled(self) -> Tensor:
        """The residual with nothing left to add."""
        return self.x if self.branch is None else self.x + self.branch


@dataclass(frozen=True, slots=True)
class Deferred:
    """The norm of `x`, to be taken by the product that reads it."""

    x: Tensor
    weight: Tensor
    eps: float


Input = Tensor | Deferred
"""What a matrix is given."""


class Matrix(Protocol):
    """x [T, in] → [T, out]; see quant/linear.py."""

    def __call__(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Plain(Matrix, Protocol):
    """A matrix of plain numbers."""

    weight: Tensor
    """[out, in]"""
    bias: Tensor | None


class Units(Protocol):
    """What a decoder layer is made of, besides rotation and attention."""

    @property
    def ops(self) -> Ops:
        """The small steps that the units are composed of."""

    def norm(self, stream: Stream, weight: Tensor, eps: float) -> tuple[Stream, Input]:
        """Add what is pending to the residual; the norm of that, for a matrix to read."""

    def linear(self, h: Input, matrix: Matrix) -> Tensor:
        """matrix(h), [T, out]."""

    def gated(self, h: Input, matrix: Matrix, activation: str) -> Tensor:
        """act(gate) · up of matrix(h) = gate, up: [T, out/2]; activation silu or gelu_tanh."""

    def logits(self, h: Input, matrix: Matrix, out: Tensor | None = None) -> Tensor:
        """matrix(h) in float32, [T, out]; in `out`, if given."""

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        """The residual with matrix(h) added, or about to be."""


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

    def norm(self, stream: Stream, weight: Tensor, eps: float) -> tuple[Stream, Input]:
        if stream.branch is None:
            return stream, self.ops.norm(stream.x, weight, eps, self.dtype)
        x, h = self.ops.add_norm(stream.x, stream.branch, weight, eps)
        return Stream(x), h

    def linear(self, h: Input, matrix: Matrix) -> Tensor:
        return matrix(self.taken(h))

    def gated(self, h: Input, matrix: Matrix, activation: str) -> Tensor:
        return self.ops.gated(matrix(self.taken(h)), activation)

    def logits(self, h: Input, matrix: Matrix, out: Tensor | None = None) -> Tensor:
        x = self.taken(h)
        if widens(matrix, x):
            return torch.mm(x, matrix.weight.T, out_dtype=torch.float32, out=out)
        logits = matrix(x)
        return logits.float() if out is None else out.copy_(logits)

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        if len(h) >= ADD_INSIDE_FROM and widens(matrix, h):
            x = stream.settled  # ours alone: nobody keeps an earlier residual
            return Stream(torch.addmm(x, h, matrix.weight.T, torch.float32, out=x))
        return Stream(stream.settled, matrix(h))

    def taken(self, h: Input) -> Tensor:
        """`h` with its norm taken."""
        if not isinstance(h, Deferred):
            return h
        return self.ops.norm(h.x, h.weight, h.eps, self.dtype)


def widens(matrix: Matrix, x: Tensor) -> TypeGuard[Plain]:
    """Whether torch can multiply 16-bit operands into float32 here: plain ones on a GPU."""
    wide = x.is_cuda and x.dtype != torch.float32
    return wide and isinstance(matrix, Plain) and matrix.bias is None
