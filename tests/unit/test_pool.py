"""The KV cache's memory: what it costs, how it begins, and the block that no sequence owns."""

from __future__ import annotations

import psutil
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


def test_the_spare_block_is_beyond_the_sequences() -> None:
    pool = make(torch.float32)
    assert pool.num_blocks == pool.spare_block == 5
    assert len(pool.layers) == 3
    for layer in pool.layers:
        assert layer.keys.shape == layer.values.shape == (6, 4, 2, 8)
        assert (layer.block_size, layer.num_kv_heads, layer.head_dim) == (4, 2, 8)


def test_it_begins_as_zeros_whatever_lay_in_memory_before() -> None:
    sizes = range(100, 5000, 7)
    left = [torch.full((size,), float("nan")) for size in sizes]
    del left
    for num_blocks in (1, 5, 70):
        for layer in make(torch.float32, num_blocks).layers:
            assert not layer.keys.any() and not layer.values.any()


def test_blocks_that_nobody_wrote_take_no_memory() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    pool = make(torch.float32, num_blocks=1_000_000)
    assert pool.nbytes > 1.5e9
    pool.layers[0].keys[999_999] = 1.0
    assert process.memory_info().rss - before < 50e6
