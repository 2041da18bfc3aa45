"""How keys and values are stored, and what that costs.

Whoever needs to know what a token of context takes (the memory plan, the ledger, the benchmark)
asks the format; whoever needs the tensors asks it to make them. Nothing else may assume that stored
numbers are as wide as the model's own. There is one format today, plain numbers of some dtype:

    bfloat16, 16 layers of 8 KV heads of 64:  2 · 16 · 8 · 64 numbers · 2 bytes = 32 KiB a token
"""

from __future__ import annotations

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
        """Room for one layer's keys and values.

        On a CPU it is not filled: an operating system gives real memory only to blocks that are
        written. On a GPU it is zeros: a kernel may read a whole block and give what lies behind the
        context weight 0, and 0 times a left-over NaN would be NaN.
        """
        shape = (num_blocks, block_size, num_kv_heads, head_dim)
        make = torch.zeros if device.type == "cuda" else torch.empty
        return KVLayer(*(make(shape, dtype=self.dtype, device=device) for _ in range(2)))
