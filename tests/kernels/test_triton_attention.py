"""Attention over pages, prefill and decode, against the formula in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

pytest.importorskip("triton")

from pellucid.kernels.kv import KVLayer
from pellucid.kernels.reference.attention import paged_attention
from pellucid.kernels.triton.decode import (
    DecodeTiling,
    Scratch,
    choose_splits,
    decode_attention,
    make_scratch,
)
from pellucid.kernels.triton.flash import FlashTiling, flash_attention, make_tiles, most_tiles

# NumPy has no bfloat16, and the interpreter multiplies its bits as integers.
ON_GPU = torch.cuda.is_available()
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * ON_GPU
ERRORS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
SMALL = FlashTiling(16, 16, 4, 2, False, 2)
PAGES = FlashTiling(16, 16, 4, 3, True, 2)
"""`SMALL` with the copy engine (which the interpreter has too)."""


@dataclass
class Case:
    """A ragged batch over a pool whose pages lie anywhere, with garbage in what is not used."""

    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    rows: list[tuple[int, int, int]]
    tables: torch.Tensor
    out: torch.Tensor

    @property
    def kv(self) -> KVLayer:
        return KVLayer(self.keys, self.values)


def make_case(
    lengths: list[tuple[int, int]],
    device: str,
    *,
    heads: int = 2,
    kv_heads: int = 1,
    dim: int = 64,
    page_size: int = 16,
    dtype: torch.dtype = torch.float32,
    heads_first: bool = False,
    seed: int = 0,
) -> Case:
    """lengths: (new tokens, context) of each row."""
    generator = torch.Generator().manual_seed(seed)
    max_pages = max(-(-context // page_size) for _, context in lengths) + 1
    num_pages = len(lengths) * max_pages + 2
    tables = torch.randperm(num_pages, generator=generator)[: len(lengths) * max_pages]
    tables = tables.view(len(lengths), max_pages)
    shape = (num_pages, page_size, kv_heads, dim)
    pools = [torch.randn(shape, generator=generator) for _ in range(2)]
    for (_, context), table in zip(lengths, tables, strict=True):
        for pool in pools:
            pages = pool[table].flatten(0, 1)
            pages[context:] = float("nan")
            pool[table] = pages.view(max_pages, *shape[1:])
    if heads_first:
        pools = [pool.transpose(1, 2).contiguous().transpose(1, 2) for pool in pools]
    rows, first = [], 1  # a token of no row, before
    for num_new, context in lengths:
        rows.append((first, num_new, context))
        first += num_new
    # q is a part of a wider tensor, as it comes out of a fused projection.
    q = torch.randn(first + 1, heads + 2 * kv_heads, dim, generator=generator)
    q = q.to(device, dtype)[:, :heads]
    keys, values = (pool.to(device, dtype) for pool in pools)
    out = torch.full(q.shape, 7.0, dtype=dtype, device=device)
    return Case(q, keys, values, rows, tables.int().to(device), out)


def expect(case: Case, **options: Any) -> None:
    """`case.out` is the attention of the case's rows; tokens of others, or of rows without context,
    are as they were."""
    want = paged_attention(case.q, case.kv, case.rows, case.tables, **options)
    of_a_row = torch.zeros(len(want), dtype=torch.bool)
    for first, num_new, context in case.rows:
        of_a_row[first : first + num_new] = context > 0
    want[~of_a_row.to(want.device)] = 7.0
    error = ERRORS[case.q.dtype]
    torch.testing.assert_close(case.out.double(), want, atol=error, rtol=error)


def flash(case: Case, tiling: FlashTiling = SMALL, **options: Any) -> None:
    group = case.q.shape[1] // case.keys.shape[2]
    device = case.q.device
    tiles = listed(case.rows, group, tiling.block_m)
    rows = torch.tensor(case.rows, dtype=torch.int32)
    flash_attention(
        case.q, case.kv, case.out, tiles.to(device), rows.to(device), case.tables,
        tiling=tiling, scale=0.125, **options,
    )  # fmt: skip
    expect(case, scale=0.125, **options)


def listed(rows: list[tuple[int, int, int]], group: int, block_m: int) -> torch.Tensor:
    """The tiles of rows in a list with room for the most there could be, garbage behind them."""
    tiles = make_tiles(rows, group, block_m)
    most = most_tiles(sum(num_new for _, num_new, _ in rows), len(rows), group, block_m)
    assert len(tiles) <= most
    return torch.tensor(tiles + [(2**30, 2**30)] * (most - len(tiles)), dtype=torch.int32)


def decode(
    case: Case,
    num_splits: int = 1,
    scratch: Scratch | None = None,
    tiling: DecodeTiling | None = None,
    **options: Any,
) -> None:
    firsts, _, contexts = (
        torch.tensor(column, dtype=torch.int32, device=case.q.device)
        for column in zip(*case.rows, strict=True)
    )
    decode_attention(
        case.q, case.kv, case.out, firsts, contexts, case.tables,
        num_new=case.rows[0][1], num_splits=num_splits, scratch=scratch,
        tiling=tiling or DecodeTiling(16, 4, 3, 1), scale=0.125, **options,
    )  # fmt: skip
    expect(case, scale=0.125, **options)


LENGTHS = st.tuples(st.integers(1, 40), st.integers(0, 50)).map(lambda n: (n[0], n[0] + n[1]))
SHAPES = st.sampled_from([(1, 1, 64), (4, 2, 64), (9, 3, 16), (9, 1, 40), (4, 1, 128)])
LIMITS = st.sampled_from([{}, {"window": 1}, {"window": 20}, {"softcap": 5.0}])


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=3),
    shape=SHAPES,
    page_size=st.sampled_from([16, 32]),
    dtype=st.sampled_from(DTYPES),
    heads_first=st.booleans(),
    limits=LIMITS,
    seed=st.integers(0, 99),
)
def test_flash(
    lengths: Any,
    shape: tuple[int, int, int],
    page_size: int,
    dtype: torch.dtype,
    heads_first: bool,
    limits: Any,
    seed: int,
    device: str,
) -> None:
    heads, kv_heads, dim = shape
    case = make_case(
        lengths, device, heads=heads, kv_heads=kv_heads, dim=dim, page_size=page_size,
        dtype=dtype, heads_first=heads_first, seed=seed,
    )  # fmt: skip
    flash(case, **limits)


@pytest.mark.parametrize("heads_first", [False, True])
def test_flash_by_the_copy_engine(device: str, heads_first: bool) -> None:
    case = make_case(
        [(5, 5), (20, 75)], device, heads=6, kv_heads=3, page_size=32, dtype=torch.float16,
        heads_first=heads_first,
    )  # fmt: skip
    flash(case, PAGES)
    flash(case, PAGES, window=30, softcap=3.0)


def test_flash_at_borders_of_tiles_and_pages(device: str) -> None:
    flash(make_case([(16, 16), (1, 1), (1, 17), (16, 32), (17, 48)], device))
    flash(make_case([(32, 64)], device, page_size=64), SMALL._replace(block_m=32, block_n=32))


def test_tiles_are_heavy_first_and_complete() -> None:
    rows = [(0, 5, 5), (5, 20, 100), (25, 1, 300)]
    count, *tiles = make_tiles(rows, 2, 16)
    assert count == (5, 0)
    assert sorted(tiles) == [(0, 0), (1, 0), (1, 8), (1, 16), (2, 0)]
    ends = [rows[r][2] - rows[r][1] + min(first + 8, rows[r][1]) for r, first in tiles]
    assert ends == sorted(ends, reverse=True)


@settings(max_examples=10, deadline=None)
@given(
    contexts=st.lists(st.integers(4, 120), min_size=1, max_size=3),
    num_new=st.sampled_from([1, 1, 4]),
    shape=SHAPES,
    page_size=st.sampled_from([16, 64]),
    dtype=st.sampled_from(DTYPES),
    heads_first=st.booleans(),
    limits=LIMITS,
    num_splits=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 99),
)
def test_decode(
    contexts: list[int],
    num_new: int,
    shape: tuple[int, int, int],
    page_size: int,
    dtype: torch.dtype,
    heads_first: bool,
    limits: Any,
    num_splits: int,
    seed: int,
    device: str,
) -> None:
    heads, kv_heads, dim = shape
    case = make_case(
        [(num_new, context) for context in contexts], device, heads=heads, kv_heads=kv_heads,
        dim=dim, page_size=page_size, dtype=dtype, heads_first=heads_first, seed=seed,
    )  # fmt: skip
    decode(case, num_splits, **limits)


def test_decode_at_borders(device: str) -> None:
    decode(make_case([(1, 1), (1, 16), (1, 17), (1, 64), (1, 0)], device))
    decode(make_case([(1, 1), (1, 16), (1, 17), (1, 64), (1, 0)], device), num_splits=4)


def test_splits_share_a_scratch_and_leave_it_clean(device: str) -> None:
    case = make_case([(1, 90), (1, 33), (1, 10)], device, heads=4, kv_heads=2)
    scratch = make_scratch(4, 4, 64, 8, torch.device(device))
    for num_splits in (8, 3, 2):
        decode(case, num_splits, scratch, DecodeTiling(16, 4, 2, 2))
        assert not scratch.counters.any()
        case.out.fill_(7.0)


def test_splits_fill_the_chip_and_no_more() -> None:
    assert choose_splits(256, 8, 4096, 132) == 1
    assert choose_splits(1, 8, 100, 132) == 1
    assert choose_splits(1, 8, 8192, 132) > 8
    assert choose_splits(1, 1, 10**6, 132) <= 32


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda c: setattr(c, "q", c.q.double()), "float64"),
        (lambda c: setattr(c, "out", c.out[..., :32]), "fit keys"),
        (lambda c: setattr(c, "values", c.values[:, :8]), "shape or strides"),
        (lambda c: setattr(c, "q", c.q.mT.contiguous().mT), "dense"),
    ],
)
def test_what_does_not_fit_is_named(device: str, change: Any, names: str) -> None:
    for run in (flash, decode):
        case = make_case([(1, 5)], device)
        change(case)
        with pytest.raises(ValueError, match=names):
            run(case)


def test_tiles_must_fit_pages_and_the_scratch_the_splits(device: str) -> None:
    case = make_case([(1, 40)], device)
    with pytest.raises(ValueError, match="pages of 16"):
        flash(case, SMALL._replace(block_n=32))
    with pytest.raises(ValueError, match="pages of 16"):
        decode(case, tiling=DecodeTiling(32, 4, 3, 1))
    with pytest.raises(ValueError, match="scratch is too small"):
        decode(case, 4, make_scratch(1, 2, 64, 2, torch.device(device)))
