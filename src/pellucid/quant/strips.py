"""Products in float32 whose rows do not depend on each other: weights in strips, by our kernel.

Problem: a matrix library picks its kernel by the number of rows, so the last bits of a row's
product depend on how many other rows are multiplied beside it. And on a CPU, the product of two
16-bit matrices is rounded to 16 bits, where the logits from 16 to 32 know steps of an eighth.
Idea: our own kernel (`kernels/cpu/linear.c`). Sixteen rows of the weight are a strip, each output
has a lane of its own, and a lane adds up its columns from first to last, in float32, however many
rows of x there are. Plain numbers are laid out in the same strips as 4- to 8-bit blocks are.
Layout: numbers that are stored as bfloat16, or would be expanded to it, stay bfloat16 (which says
the same in half the bytes); everything else becomes float32, or stays in its blocks (`keeps`).
Trade-off: few rows are multiplied as fast as the memory can be read, 49,152 × 576 bfloat16 numbers
twice as fast as by torch. From some 32 rows on a processor's bfloat16 units would be faster.

Two ask for it: the LM head of a bfloat16 model, whose logits are float32 (`linear.head_method`),
and the option `batch_invariant`, for every matrix.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import torch

from pellucid.kernels import PackedMatrix, cpu_kernels, why_no_cpu_kernels
from pellucid.kernels.matrix import Matrix
from pellucid.quant.method import Embedding
from pellucid.quant.packed import pack
from pellucid.quant.weight import StoredWeight


class Strips:
    """The `WeightMethod` that takes every weight, on a CPU, for activations in float32 or bfloat16.

    keeps: kinds of blocks that are multiplied as they lie; others are expanded.
    """

    def __init__(self, keeps: Collection[str] = ()) -> None:
        self._keeps = keeps

    def why_not_on(self, device: torch.device) -> str:
        if device.type != "cpu":
            return f"its kernels are for the CPU, and the device is {device.type}"
        return why_no_cpu_kernels()

    def why_not(self, weight: StoredWeight) -> str:
        return ""

    def joins(self, weight: StoredWeight) -> Hashable:
        return weight.kind

    def linear(
        self,
        parts: Sequence[StoredWeight],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> StripsLinear:
        return StripsLinear(self._lay_out(parts, dtype), bias)

    def embedding(
        self, weight: StoredWeight, dtype: torch.dtype, device: torch.device
    ) -> StripsEmbedding:
        return StripsEmbedding(self._lay_out([weight], dtype), dtype, weight)

    def _lay_out(self, parts: Sequence[StoredWeight], dtype: torch.dtype) -> PackedMatrix:
        """One matrix of parts of one kind."""
        kind = parts[0].kind
        if kind in self._keeps:
            return pack(parts)
        numbers = torch.bfloat16 if kind == "BF16" else dtype
        return cpu_kernels().pack_plain(torch.cat([part.dense(numbers) for part in parts]))


class StripsLinear(Matrix):
    """x · Wᵀ + bias with W [n, k] in strips."""

    def __init__(self, matrix: PackedMatrix, bias: torch.Tensor | None) -> None:
        self.matrix = matrix.with_bias(bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.matrix.matmul(x, exact=True)

    def float32(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        product = self(x.float())
        return product if out is None else out.copy_(product)

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes


class StripsEmbedding(Embedding):
    """W in strips; the rows that are looked up are taken out of them."""

    def __init__(self, matrix: PackedMatrix, dtype: torch.dtype, source: StoredWeight) -> None:
        self.matrix = matrix
        self.dtype = dtype
        self.source = source  # kept alive, so that its identity stays its own

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return self.matrix.rows(ids, self.dtype)

    def head(self, bias: torch.Tensor | None) -> StripsLinear:
        return StripsLinear(self.matrix, bias)
