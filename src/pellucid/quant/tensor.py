"""A weight as it lies in its file, and the way from there to numbers.

Checkpoints hold plain numbers (F32, F16, BF16) or blocks: runs of 32 or 256 weights along the input
dimension that share a scale. A `WeightTensor` keeps the rows untouched, so that a linear layer can
decide for itself whether to expand them (`dense`) or to multiply by the blocks directly (`packed`).
Rows can be permuted and joined without decoding, because a block never crosses a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pellucid.quant.blocks import BLOCKS, dequantize


@dataclass(frozen=True, slots=True)
class WeightTensor:
    """One weight.

    `kind` is GGUF's name of the element type ("F32", "BF16", "Q4_1", ...). `data` is a floating
    tensor of `shape` for plain kinds and uint8 [rows, bytes per row] for block kinds.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    data: torch.Tensor

    @property
    def is_blocks(self) -> bool:
        return self.kind in BLOCKS

    @property
    def nbytes(self) -> int:
        return self.data.numel() * self.data.element_size()

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """Its numbers, `shape`, in `dtype`; blocks are decoded in float32 first."""
        if self.is_blocks:
            return dequantize(self.kind, self.data).view(self.shape).to(dtype)
        return self.data.to(dtype)

    def select_rows(self, index: torch.Tensor) -> WeightTensor:
        """Rows `index` in that order. index: int64 [n]."""
        return WeightTensor(
            self.name, self.kind, (len(index), *self.shape[1:]), self.data[index].contiguous()
        )
