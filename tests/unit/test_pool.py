"""The KV cache's memory: what it costs, and the block that no sequence owns."""

from __future__ import annotations

import pytest
import torch

from pellucid.cache.formats import KVFormat
from pellucid.cache.pool import KVPool

CPU = torch.device("cpu")
SIZES = {"num_layers": 3, "num_kv_heads": 2, "head_dim": 8}


def make(dtype: torch.dtype, num_blocks: int = 5) -> KVPool:
    return KVPool(**SIZES, num_blocks=num_blocks, block_size=4, format=KVFormat(dtype), device=CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_format_prices_what_the_pool_takes(dtype: torch.dtype) -> None:
    pool = make(dtype)
    assert pool.nbytes == (5 + 1) * 4 * KVFormat(dtype).bytes_per_token(**SIZES)
    assert KVFormat(dtype).bytes_per_token(**SIZES) == 2 * 3 * 2 * 8 * dtype.itemsize


def test_the_spare_block_is_beyond_the_sequences_and_holds_finite_numbers() -> None:
    pool = make(torch.float32)
    assert pool.num_blocks == pool.spare_block == 5
    assert len(pool.layers) == 3
    for layer in pool.layers:
        assert layer.keys.shape == layer.values.shape == (6, 4, 2, 8)
        assert (layer.block_size, layer.num_kv_heads, layer.head_dim) == (4, 2, 8)
        assert not layer.keys[pool.spare_block].any() and not layer.values[pool.spare_block].any()
