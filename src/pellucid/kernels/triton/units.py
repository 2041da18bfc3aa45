"""The units of a layer as one launch each, for the few tokens of a small decode step.

With few tokens a product is bound by reading the matrix, so whatever else it does on the way is
free, and every launch that disappears is time won: the norm moves into the product that reads it,
residual and activation into the one that makes them. A unit is composed of separate steps where a
step has more tokens, or where the matrix has no fused product (`products.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.kernels.matrix import Matrix
from pellucid.kernels.triton.gemv import MAX_TOKENS
from pellucid.kernels.triton.products import FusedProduct, fused_product
from pellucid.kernels.units import Composed, Norm, Stream
from pellucid.stages import Clock


class GemvUnits(Composed):
    """`kernels.units.Units`, fused where that pays."""

    def norm_linear(
        self, stream: Stream, norm: Norm, matrix: Matrix, clock: Clock
    ) -> tuple[Stream, Tensor]:
        if (product := reads_norm(stream, matrix)) is None:
            return super().norm_linear(stream, norm, matrix, clock)
        return stream, product(self.rounded(stream), norm=norm)

    def norm_gated(
        self, stream: Stream, norm: Norm, matrix: Matrix, activation: str, clock: Clock
    ) -> tuple[Stream, Tensor]:
        if (product := reads_norm(stream, matrix)) is None:
            return super().norm_gated(stream, norm, matrix, activation, clock)
        return stream, product(self.rounded(stream), norm=norm, gated=activation)

    def norm_logits(
        self, stream: Stream, norm: Norm, matrix: Matrix, clock: Clock, out: Tensor | None = None
    ) -> Tensor:
        if (product := reads_norm(stream, matrix)) is None:
            return super().norm_logits(stream, norm, matrix, clock, out)
        return product(self.rounded(stream), norm=norm, out_dtype=torch.float32, out=out)

    def normed(self, stream: Stream, norm: Norm, clock: Clock) -> tuple[Stream, Tensor]:
        """A norm of few tokens with nothing to add reads the numbers that a fused product reads and
        counts to the product's stage as there: no stage depends on how large a matrix is."""
        if stream.branch is not None or len(stream.x) > MAX_TOKENS:
            return super().normed(stream, norm, clock)
        return stream, self.ops.norm(self.rounded(stream), norm.weight, norm.eps, self.dtype)

    def linear(self, h: Tensor, matrix: Matrix) -> Tensor:
        if (product := paying(matrix, len(h))) is None:
            return super().linear(h, matrix)
        return product(h)

    def gated(self, h: Tensor, matrix: Matrix, activation: str) -> Tensor:
        if (product := paying(matrix, len(h))) is None:
            return super().gated(h, matrix, activation)
        return product(h, gated=activation)

    def logits(self, h: Tensor, matrix: Matrix, out: Tensor | None = None) -> Tensor:
        if (product := paying(matrix, len(h))) is None:
            return super().logits(h, matrix, out)
        return product(h, out_dtype=torch.float32, out=out)

    def add_linear(self, stream: Stream, h: Tensor, matrix: Matrix) -> Stream:
        if (product := paying(matrix, len(h))) is None:
            return super().add_linear(stream, h, matrix)
        rounded = None
        if self.dtype != stream.x.dtype:
            rounded = torch.empty(stream.x.shape, dtype=self.dtype, device=h.device)
        x = product(h, residual=stream.total, rounded=rounded)
        return Stream(x, None, rounded)

    def rounded(self, stream: Stream) -> Tensor:
        """The residual in the dtype of the weights: two widths in one loop over K would have to
        change hands between threads."""
        return stream.x.to(self.dtype) if stream.rounded is None else stream.rounded


def paying(matrix: Matrix, num_tokens: int) -> FusedProduct | None:
    """The matrix's fused product, if it has one that pays for so many tokens."""
    product = fused_product(matrix.operand)
    return product if product is not None and product.pays(num_tokens) else None


def reads_norm(stream: Stream, matrix: Matrix) -> FusedProduct | None:
    """The fused product that takes the norm of the stream; None while a branch is to be added."""
    return paying(matrix, len(stream.x)) if stream.branch is None else None
