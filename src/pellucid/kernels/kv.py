"""One layer's keys and values, as every kernel that reads or writes them is given them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class KVLayer:
    """Keys and values of one layer, in blocks (kernels that read them call a block a page).

    Both are [num_blocks, block_size, kv_heads, head_dim], of one dtype. This is one argument, and
    not two tensors, so that a format whose numbers need more than their codes (a scale for each
    token and head) adds a field here and no argument anywhere else.
    """

    keys: Tensor
    values: Tensor

    @property
    def block_size(self) -> int:
        return self.keys.shape[1]

    @property
    def num_kv_heads(self) -> int:
        return self.keys.shape[2]

    @property
    def head_dim(self) -> int:
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes
