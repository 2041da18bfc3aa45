"""Linear layers that multiply by 4- to 8-bit blocks as they are.

Problem: a decode step reads every weight once and does almost nothing with it, so its time is the
size of the weights divided by the memory's bandwidth.
Idea: keep the blocks and expand them in registers, right before the multiplication. Nothing is
rounded: a weight is the number that the file says, and activations stay as they are.
Layout and arithmetic: `kernels/cpu/linear.c`. The blocks are rearranged on load, so that a SIMD
lane belongs to an output row; they take as many bytes as in the file.
Trade-off: a prompt of many tokens is bound by arithmetic instead, where expanding costs a little
extra; there a panel of rows is expanded once and multiplied by all tokens.

On a processor with bfloat16 units and bfloat16 activations, many rows are multiplied by torch: a
slice of the matrix is expanded to bfloat16, used, and forgotten.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F

from pellucid.kernels import KINDS, PackedMatrix, cpu_kernels, why_no_cpu_kernels
from pellucid.kernels.matrix import Matrix
from pellucid.quant.method import Embedding
from pellucid.quant.weight import BlockWeight, StoredWeight

MIN_BF16_ROWS = 32
"""Rows of x from which expanding for the bfloat16 units pays."""

SLICE = 1 << 22
"""Weights expanded at a time for them: what a third-level cache holds."""


class Packed:
    """The `WeightMethod` for 4- to 8-bit blocks on a CPU."""

    def why_not_on(self, device: torch.device) -> str:
        if device.type != "cpu":
            return f"its kernels are for the CPU, and the device is {device.type}"
        return why_no_cpu_kernels()

    def why_not(self, weight: StoredWeight) -> str:
        if isinstance(weight, BlockWeight) and weight.kind in KINDS:
            return ""
        return f"{weight.kind} numbers are not in blocks"

    def joins(self, weight: StoredWeight) -> Hashable:
        return weight.kind

    def linear(
        self,
        parts: Sequence[StoredWeight],
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> PackedLinear:
        return PackedLinear(pack(parts), bias)

    def embedding(
        self, weight: StoredWeight, dtype: torch.dtype, device: torch.device
    ) -> PackedEmbedding:
        return PackedEmbedding(pack([weight]), dtype, weight)


def pack(parts: Sequence[StoredWeight]) -> PackedMatrix:
    """One packed matrix of blocks of one kind, rows one behind the other."""
    rows = [tensor for part in parts for tensor in part.tensors]  # blocks are one tensor each
    data = rows[0] if len(rows) == 1 else torch.cat(rows)
    return cpu_kernels().pack(parts[0].kind, data, parts[0].shape[1])


class PackedLinear(Matrix):
    """x · Wᵀ + bias with W [n, k] packed."""

    def __init__(self, matrix: PackedMatrix, bias: torch.Tensor | None) -> None:
        self.matrix = matrix.with_bias(bias)
        self.bias = bias
        self.use_bf16_units = matrix.kernels.has_bf16_units

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype is torch.float32:
            return self.matrix.matmul(x)
        if x.dtype is not torch.bfloat16:
            return self.matrix.matmul(x.float()).to(x.dtype)
        if self.use_bf16_units and len(x) >= MIN_BF16_ROWS:
            return self.expand_and_multiply(x)
        return self.matrix.matmul(x)

    def float32(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        product = self.matrix.matmul(x.float())
        return product if out is None else out.copy_(product)

    def expand_and_multiply(self, x: torch.Tensor) -> torch.Tensor:
        """x [m, k] bfloat16 → [m, n], a slice of rows of W after the other."""
        matrix, step = self.matrix, max(16, SLICE // self.matrix.k // 16 * 16)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        pieces = []
        for first in range(0, matrix.n, step):
            count = min(step, matrix.n - first)
            weight = matrix.expand(first, count, x.dtype)
            pieces.append(
                F.linear(x, weight, None if bias is None else bias[first : first + count])
            )
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes


class PackedEmbedding(Embedding):
    """W as blocks; only the rows that are looked up are expanded."""

    def __init__(self, matrix: PackedMatrix, dtype: torch.dtype, source: StoredWeight) -> None:
        self.matrix = matrix
        self.dtype = dtype
        self.source = source  # kept alive, so that its identity stays its own

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        if self.dtype in (torch.float32, torch.bfloat16):
            return self.matrix.rows(ids, self.dtype)
        return self.matrix.rows(ids, torch.float32).to(self.dtype)

    def head(self, bias: torch.Tensor | None) -> PackedLinear:
        return PackedLinear(self.matrix, bias)
