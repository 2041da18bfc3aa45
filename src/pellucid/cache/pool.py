"""The KV cache's memory: one tensor of keys and one of values per layer, cut into blocks.

    keys[layer], values[layer]: [num_blocks, block_size, kv_heads, head_dim]

Seen flat, position p of a sequence lies in slot

    table[p // block_size] * block_size + p % block_size

Writing scatters new rows to their slots (kernels/ops.py); reading takes the blocks of a table in
order. Where these stand one behind the other, tensor operations can read a slice and copy nothing
(see cache/blocks.py and attention/paged.py).
"""

from __future__ import annotations

import torch


class KVPool:
    """Keys and values of all layers. Sizes as in the layout above."""

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        shape = (num_blocks, block_size, num_kv_heads, head_dim)
        # On a CPU never filled: an operating system gives real memory only to blocks that are
        # written. On a GPU zeros: a kernel may read a whole page and give what is behind the
        # context weight 0, and 0 times whatever lay there before could be no number.
        make = torch.zeros if device.type == "cuda" else torch.empty
        self.keys = [make(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.values = [make(shape, dtype=dtype, device=device) for _ in range(num_layers)]

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))
