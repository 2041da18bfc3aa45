"""Every backend against one softmax per query, over pages in any order."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pellucid.attention import AttentionRow, AttentionShape, Heads, make_attention
from pellucid.attention.paged import block_index
from pellucid.kernels.kv import KVLayer

CPU = torch.device("cpu")
BLOCK = 4
HEADS = Heads(num_heads=4, num_kv_heads=2, head_dim=16, block_size=BLOCK)
"""What the GPU's kernels would be chosen by."""


def slow(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_new: int, shape: AttentionShape
) -> torch.Tensor:
    """One query and head at a time, in float64. q [new, H, D], k/v [context, KV, D]."""
    group, context = q.shape[1] // k.shape[1], len(k)
    out = torch.zeros_like(q, dtype=torch.float64)
    for i in range(num_new):
        end = context - num_new + i + 1
        begin = max(0, end - shape.window) if shape.window else 0
        for h in range(q.shape[1]):
            keys, values = k[begin:end, h // group].double(), v[begin:end, h // group].double()
            score = keys @ q[i, h].double() * shape.scale
            if shape.softcap:
                score = shape.softcap * torch.tanh(score / shape.softcap)
            out[i, h] = torch.softmax(score, 0) @ values
    return out


@pytest.mark.parametrize("name", ["naive", "sdpa", "flash"])
@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=5),
    heads=st.sampled_from([(1, 1), (4, 2), (9, 3), (6, 1)]),
    window=st.sampled_from([0, 1, 3, 8, 100]),
    softcap=st.sampled_from([0.0, 5.0]),
    shuffle=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_matches_one_softmax_per_query(
    name: str,
    lengths: list[tuple[int, int]],
    heads: tuple[int, int],
    window: int,
    softcap: float,
    shuffle: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    num_heads, num_kv = heads
    dim, num_blocks = 8, 40
    keys = torch.randn(num_blocks, BLOCK, num_kv, dim, generator=generator)
    values = torch.randn(num_blocks, BLOCK, num_kv, dim, generator=generator)
    free = torch.randperm(num_blocks, generator=generator).tolist()
    if not shuffle:
        free.sort()
    q = torch.randn(sum(n for n, _ in lengths), num_heads, dim, generator=generator)
    shape = AttentionShape(0.3, window, softcap)
    rows, wanted, at = [], [], 0
    for num_new, past in lengths:
        context = num_new + past
        blocks = [free.pop(0) for _ in range(-(-context // BLOCK))]
        rows.append(AttentionRow(slice(at, at + num_new), context, blocks))
        k, v = (cache[blocks].flatten(0, 1)[:context] for cache in (keys, values))
        wanted.append(slow(q[at : at + num_new], k, v, num_new, shape))
        at += num_new
    backend = make_attention(name, CPU, torch.float32, HEADS)
    got = backend.attend(q, KVLayer(keys, values), backend.prepare(rows, CPU), shape)
    torch.testing.assert_close(got.double(), torch.cat(wanted), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [0, 300])
def test_decoding_in_chunks_is_decoding(dtype: torch.dtype, window: int) -> None:
    """Contexts of one to several chunks, of rows that do not follow each other in the batch."""
    contexts = [1, 255, 256, 257, 1000]
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(300, 16, 2, 16, generator=generator).to(dtype) for _ in range(2))
    order = torch.randperm(300, generator=generator).tolist()
    q = torch.randn(len(contexts), 6, 16, generator=generator).to(dtype)
    rows, wanted = [], []
    shape = AttentionShape(0.25, window)
    for i, context in enumerate(contexts):
        blocks = [order.pop() for _ in range(-(-context // 16))]
        rows.append(AttentionRow(slice(i, i + 1), context, blocks))
        k, v = (cache[blocks].flatten(0, 1)[:context] for cache in (keys, values))
        wanted.append(slow(q[i : i + 1], k, v, 1, shape))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        backend = make_attention("flash", CPU, dtype, HEADS)
        got = backend.attend(q, KVLayer(keys, values), backend.prepare(rows, CPU), shape)
        error = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(got.double(), torch.cat(wanted), atol=error, rtol=error)


def test_a_table_in_one_stretch_is_read_in_place() -> None:
    cache = torch.zeros(10, BLOCK, 1, 2)
    assert cache[block_index([3, 4, 5], CPU)].data_ptr() == cache[3].data_ptr()
    assert isinstance(block_index([3, 5, 4], CPU), torch.Tensor)
