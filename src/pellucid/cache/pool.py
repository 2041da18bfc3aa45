"""The KV cache's memory: one `KVLayer` per layer, cut into blocks.

    layers[i].keys, layers[i].values: [num_blocks + 1, block_size, kv_heads, head_dim]

Seen flat, position p of a sequence lies in slot

    table[p // block_size] * block_size + p % block_size

Writing scatters new rows to their slots (kernels/ops.py); reading takes the blocks of a table in
order. Where these stand one behind the other, tensor operations can read a slice and copy nothing
(see cache/blocks.py and attention/paged.py).

The last block is the spare one. No sequence ever owns it: it is where the tokens that only fill up
a padded step write their keys and values (see runner/padded.py), and what padding reads.
"""

from __future__ import annotations

import torch

from pellucid.cache.formats import KVFormat


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
        format: KVFormat,
        device: torch.device,
    ) -> None:
        self.num_blocks = num_blocks
        """Blocks for sequences: 0 .. num_blocks - 1, the spare block not counted."""
        self.block_size = block_size
        self.format = format
        self.layers = [
            format.make_layer(
                num_blocks=num_blocks + 1,
                block_size=block_size,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim,
                device=device,
            )
            for _ in range(num_layers)
        ]

    @property
    def spare_block(self) -> int:
        """The block that padding lives in."""
        return self.num_blocks

    def serves(self, block_size: int, format: KVFormat) -> bool:
        """Whether blocks of this size and format lie here."""
        return self.block_size == block_size and self.format == format

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)
