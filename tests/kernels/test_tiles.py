"""The walk over tiles against one softmax per query, and against the engine's own backends."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pellucid.attention import AttentionRow, AttentionShape, Heads, make_attention
from pellucid.attention.naive import weigh
from pellucid.kernels.kv import KVLayer
from pellucid.kernels.reference.tiles import AFTER, BEFORE, TileStep, walk_tiles

CPU = torch.device("cpu")
BLOCK = 4


def last_of_each(steps: list[TileStep]) -> torch.Tensor:
    """The output: where each tile of queries ends."""
    ends = {step.queries: step for step in steps}
    return torch.cat([step.partial for step in ends.values()])


@pytest.mark.parametrize("name", ["naive", "sdpa", "flash"])
@settings(max_examples=60, deadline=None)
@given(
    num_new=st.integers(1, 40),
    past=st.integers(0, 9),
    heads=st.sampled_from([(1, 1), (4, 2), (9, 3), (6, 1)]),
    window=st.sampled_from([0, 1, 3, 8, 100]),
    softcap=st.sampled_from([0.0, 5.0]),
    tile=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    seed=st.integers(0, 1000),
)
def test_tiles_end_in_what_the_backend_gives(
    name: str,
    num_new: int,
    past: int,
    heads: tuple[int, int],
    window: int,
    softcap: float,
    tile: tuple[int, int],
    seed: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    num_heads, num_kv = heads
    context, dim = num_new + past, 8
    num_blocks = -(-context // BLOCK)
    keys, values = (torch.randn(num_blocks, BLOCK, num_kv, dim, generator=draw) for _ in range(2))
    q = torch.randn(num_new, num_heads, dim, generator=draw) * 3
    shape = AttentionShape(0.4, window, softcap)
    backend = make_attention(name, CPU, torch.float32, Heads(num_heads, num_kv, dim, BLOCK))
    rows = backend.prepare([AttentionRow(slice(0, num_new), context, list(range(num_blocks)))], CPU)
    out = backend.attend(q, KVLayer(keys, values), rows, shape)
    for head in range(num_heads):
        k, v = (
            pool.flatten(0, 1)[:context, head // (num_heads // num_kv)] for pool in (keys, values)
        )
        steps = list(
            walk_tiles(
                q[:, head], k, v, block_m=tile[0], block_n=tile[1],
                scale=0.4, window=window, softcap=softcap,
            )
        )  # fmt: skip
        torch.testing.assert_close(last_of_each(steps), out[:, head], atol=1e-4, rtol=1e-4)
        check_states(steps, weigh(q[:, [head]], k[None], shape)[0])


def check_states(steps: list[TileStep], weights: torch.Tensor) -> None:
    """Every pair that is seen is in a tile that was not skipped; skipped tiles weigh nothing."""
    for step in steps:
        tile = weights[step.queries.start : step.queries.stop, step.keys.start : step.keys.stop]
        if step.skipped:
            assert not tile.any()
            assert step.skipped in (AFTER, BEFORE) and step.rescale.eq(1).all()
        assert step.rescale.ge(0).all() and step.rescale.le(1).all()
        assert step.total.ge(0).all() and not step.partial.isnan().any()


def test_the_docstring_s_example() -> None:
    q, k, v = torch.ones(2, 1), torch.tensor([[1.0], [3.0]]), torch.tensor([[10.0], [20.0]])
    steps = list(walk_tiles(q, k, v, block_m=2, block_n=1, scale=1.0))
    first, second = steps
    assert [n[1].item() for n in (first.peak, first.total, first.rescale)] == [1.0, 1.0, 0.0]
    assert second.peak[1].item() == 3.0
    assert second.rescale[1].item() == pytest.approx(0.1353, abs=1e-4)
    assert second.total[1].item() == pytest.approx(1.1353, abs=1e-4)
    assert second.partial[0].item() == 10.0, "the first query does not see the second key"
