"""Hopper's attention kernel against the formula in float64; it has no interpreter, only the GPU."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

pytest.importorskip("triton")

ON_HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not ON_HOPPER, reason="needs a Hopper GPU"),
]

from pellucid.kernels.kv import KVLayer  # noqa: E402
from pellucid.kernels.reference.attention import paged_attention  # noqa: E402
from pellucid.kernels.triton.flash import make_tiles  # noqa: E402

if ON_HOPPER:
    from pellucid.kernels.triton.flash_hopper import (
        BLOCK_M,
        HopperTiling,
        fits,
        flash_attention_hopper,
    )

RAGGED = [(200, 200), (1, 77), (130, 400), (64, 64), (33, 512), (1, 1), (127, 129), (128, 256)]
"""(new tokens, context): with and without a prefix, on the edges of tiles and pages and off."""
ERRORS = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass
class Case:
    """A ragged batch over a pool whose pages lie anywhere."""

    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    rows: list[tuple[int, int, int]]
    tables: torch.Tensor

    @property
    def kv(self) -> KVLayer:
        return KVLayer(self.keys, self.values)

    def run(self, tiling: HopperTiling | None = None) -> torch.Tensor:
        """The kernel's output; tokens of no row hold 7."""
        out = torch.full_like(self.q, 7.0)
        group = self.q.shape[1] // self.keys.shape[2]
        tiles = make_tiles(self.rows, group, BLOCK_M) + [(2**30, 2**30)] * 5  # room for more
        rows = torch.tensor(self.rows, dtype=torch.int32)
        return flash_attention_hopper(
            self.q, self.kv, out,
            torch.tensor(tiles, dtype=torch.int32).cuda(), rows.cuda(), self.tables,
            scale=self.q.shape[2] ** -0.5, tiling=tiling,
        )  # fmt: skip

    def check(self, tiling: HopperTiling | None = None) -> None:
        """Compare with the formula; the last two tokens belong to no row."""
        want = paged_attention(
            self.q, self.kv, self.rows, self.tables, scale=self.q.shape[2] ** -0.5
        )
        out = self.run(tiling)
        assert (out[-2:] == 7.0).all()
        error = (out[:-2].double() - want[:-2]).abs().max().item()
        assert error < ERRORS[self.q.dtype]


def make_case(
    lengths: list[tuple[int, int]],
    heads: int,
    kv_heads: int,
    *,
    dim: int = 128,
    page_size: int = 128,
    dtype: torch.dtype = torch.bfloat16,
    heads_first: bool = False,
) -> Case:
    """Pages in random order; keys behind a context are NaN, values there finite, as promised."""
    torch.manual_seed(0)
    counts = [-(-context // page_size) for _, context in lengths]
    order = torch.randperm(sum(counts) + 3).tolist()
    shape = (len(order), page_size, kv_heads, dim)
    if heads_first:
        shape = (len(order), kv_heads, page_size, dim)
    keys, values = torch.randn(2, *shape, dtype=dtype, device="cuda")
    if heads_first:
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    tables = torch.zeros(len(lengths), max(counts) + 1, dtype=torch.int32)
    rows, first = [], 0
    for row, (num_new, context) in enumerate(lengths):
        for page in range(counts[row]):
            tables[row, page] = order.pop()
        if context % page_size:
            last = int(tables[row, counts[row] - 1])
            keys[last, context % page_size :] = float("nan")
        rows.append((first, num_new, context))
        first += num_new
    q = torch.randn(first + 2, heads, dim, dtype=dtype, device="cuda")
    return Case(q, keys, values, rows, tables.cuda())


@pytest.mark.parametrize("page_size", [64, 128])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ragged_rows(dtype: torch.dtype, group: int, page_size: int) -> None:
    make_case(RAGGED, 8, 8 // group, dtype=dtype, page_size=page_size).check()


@pytest.mark.parametrize("page_size", [64, 128])
def test_heads_before_positions_and_head_size_64(page_size: int) -> None:
    make_case(RAGGED, 8, 2, page_size=page_size, heads_first=True).check()
    make_case(RAGGED, 6, 6, page_size=page_size, dim=64).check()


def test_every_tiling() -> None:
    case = make_case([*RAGGED, (700, 1500)], 8, 2)
    for tiling in (
        HopperTiling(64, 4),
        HopperTiling(128, 3),
        HopperTiling(128, 2, in_turns=True),
        HopperTiling(128, 2, persistent=False),
        HopperTiling(128, 2, heads_together=1),
    ):
        case.check(tiling)


@pytest.mark.parametrize("in_turns", [False, True])
def test_many_runs_are_the_same_run(in_turns: bool) -> None:
    """More tiles than multiprocessors, 200 times: a race would show in some bit."""
    case = make_case([(1500, 1500), (900, 2900), (333, 777), (5, 4000)], 16, 4)
    tiling = HopperTiling(128, 2, in_turns=in_turns)
    case.check(tiling)
    first = case.run(tiling)
    for _ in range(200):
        assert torch.equal(case.run(tiling), first)


def test_a_cuda_graph_replays_it() -> None:
    case = make_case(RAGGED, 8, 2)
    out = torch.empty_like(case.q)
    tiles = torch.tensor(make_tiles(case.rows, 4, BLOCK_M), dtype=torch.int32).cuda()
    rows = torch.tensor(case.rows, dtype=torch.int32).cuda()
    want = case.run()  # and compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        flash_attention_hopper(case.q, case.kv, out, tiles, rows, case.tables, scale=128**-0.5)
    graph.replay()
    assert torch.equal(out[:-2], want[:-2])


def test_what_does_not_fit_is_refused() -> None:
    case = make_case([(10, 10)], 6, 2)
    assert not fits(case.q, case.kv)  # 3 does not divide 128
    with pytest.raises(ValueError, match="3 heads"):
        case.run()
    case = make_case([(10, 10)], 4, 2, page_size=64)
    assert fits(case.q, case.kv)
    assert not fits(case.q, case.kv, window=10)
    assert not fits(case.q, case.kv, softcap=10.0)
    with pytest.raises(ValueError, match="pages of 64"):
        case.run(HopperTiling(128, 2))
