"""How keys and values are stored, and what that costs.

Whoever needs to know what a token of context takes (the memory plan, the ledger, the benchmark)
asks the format; whoever needs the tensors asks it to make them. Nothing else may assume that stored
numbers are as wide as the model's own. There is one format today, plain numbers of some dtype:

    bfloat16, 16 layers of 8 KV heads of 64:  2 · 16 · 8 · 64 numbers · 2 bytes = 32 KiB a token
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass

import torch

from pellucid.kernels.kv import KVLayer


@dataclass(frozen=True, slots=True)
class KVFormat:
    """Keys and values as plain numbers of `dtype`."""

    dtype: torch.dtype

    def bytes_per_token(self, *, num_layers: int, num_kv_heads: int, head_dim: int) -> int:
        """Bytes of keys and values that one token leaves behind in all layers."""
        return 2 * num_layers * num_kv_heads * head_dim * self.dtype.itemsize

    def make_layer(
        self,
        *,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        device: torch.device,
    ) -> KVLayer:
        """Room for one layer's keys and values: zeros.

        Whoever reads a block before it was written, or behind the end of a context, finds finite
        numbers: a kernel may read a whole block and give what lies behind the context weight 0, and
        0 times a left-over NaN would be NaN. Measuring pretends that blocks were written.
        """
        shape = (num_blocks, block_size, num_kv_heads, head_dim)
        return KVLayer(*(_zeros(shape, self.dtype, device) for _ in range(2)))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; on a CPU they take real memory only where they are written.

    `torch.zeros` writes all of them, and `torch.empty` hands out what another tensor left behind.
    An anonymous mapping is zero by contract, and the operating system finds its pages when needed.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
