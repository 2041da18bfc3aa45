"""Expansion of block formats is bit-exact to the gguf package, for any bytes whatever."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.quant.blocks import BLOCKS, CHUNK, dequantize
from pellucid.quant.weight import BlockWeight

KINDS = sorted(BLOCKS)


def expected(kind: str, data: torch.Tensor) -> torch.Tensor:
    with np.errstate(all="ignore"):
        numbers = gguf.quants.dequantize(data.numpy(), gguf.GGMLQuantizationType[kind])
    return torch.from_numpy(numbers)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in every bit, signed zeros included; which NaN it is does not matter."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a.view(torch.int32) == b.view(torch.int32)) | (a.isnan() & b.isnan())).all())


def random_bytes(kind: str, rows: int, num_blocks: int, seed: int) -> torch.Tensor:
    size = (rows, num_blocks * BLOCKS[kind].nbytes)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_the_formats(kind: str) -> None:
    size, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    assert (BLOCKS[kind].size, BLOCKS[kind].nbytes) == (size, nbytes)
    assert BLOCKS[kind].row_bytes(4 * size) == 4 * nbytes


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_bytes(kind: str, data: st.DataObject) -> None:
    """Arbitrary bytes: scales that are subnormal, infinite, negative zero or NaN included."""
    rows = data.draw(st.integers(1, 3))
    num_blocks = data.draw(st.integers(1, 3))
    size = rows * num_blocks * BLOCKS[kind].nbytes
    raw = data.draw(st.binary(min_size=size, max_size=size))
    blocks = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(rows, -1)
    assert same_bits(dequantize(kind, blocks), expected(kind, blocks))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, -0.0, 2.0**-24, -(2.0**-15), 1.0, 65504.0, -65504.0])
def test_extreme_scales(kind: str, scale: float) -> None:
    blocks = random_bytes(kind, 4, 8, seed=1).view(-1, BLOCKS[kind].nbytes)
    at = 208 if kind == "Q6_K" else 0
    blocks[:, at : at + 2] = torch.tensor([scale], dtype=torch.float16).view(torch.uint8)
    rows = blocks.view(4, -1)
    assert same_bits(dequantize(kind, rows), expected(kind, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_a_chunk(kind: str) -> None:
    per_row = 3
    rows = CHUNK // (BLOCKS[kind].size * per_row) + 7
    blocks = random_bytes(kind, rows, per_row, seed=2)
    assert same_bits(dequantize(kind, blocks), expected(kind, blocks))


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows(kind: str) -> None:
    assert dequantize(kind, torch.empty(0, BLOCKS[kind].nbytes, dtype=torch.uint8)).numel() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_rows_move_without_decoding(kind: str) -> None:
    blocks = random_bytes(kind, 6, 2, seed=3)
    weight = BlockWeight("w", kind, (6, 2 * BLOCKS[kind].size), blocks)
    order = torch.tensor([5, 0, 0, 3])
    moved = weight.select_rows(order)
    assert moved.shape == (4, 2 * BLOCKS[kind].size)
    assert same_bits(moved.dense(torch.float32), weight.dense(torch.float32)[order])
