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
from typing import Protocol

from torch import Tensor

from pellucid.kernels.ops import Ops

Stream = tuple[Tensor, Tensor | None]
"""The residual [T, hidden], and what is still to be added to it, [T, hidden]."""


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

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        """The residual with matrix(h) added, or about to be."""


class Composed:
    """Off: each unit is a matrix product with the small steps before and after it."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops

    def norm(self, stream: Stream, weight: Tensor, eps: float) -> tuple[Stream, Input]:
        x, branch = stream
        if branch is None:
            return stream, self.ops.norm(x, weight, eps)
        x, h = self.ops.add_norm(x, branch, weight, eps)
        return (x, None), h

    def linear(self, h: Input, matrix: Matrix) -> Tensor:
        return matrix(self.taken(h))

    def gated(self, h: Input, matrix: Matrix, activation: str) -> Tensor:
        return self.ops.gated(matrix(self.taken(h)), activation)

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        return settled(stream), matrix(h)

    def taken(self, h: Input) -> Tensor:
        """`h` with its norm taken."""
        return self.ops.norm(h.x, h.weight, h.eps) if isinstance(h, Deferred) else h


def settled(stream: Stream) -> Tensor:
    """The residual with nothing left to add."""
    x, branch = stream
    return x if branch is None else x + branch
