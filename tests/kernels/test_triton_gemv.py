"""The GEMV in Triton against its formula in float64.

In the interpreter on a CPU, compiled on a GPU: `conftest.py` decides.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pellucid.kernels.reference import steps as twin
from pellucid.kernels.triton.gemv import GemvTiling, config, gemv

STEP = {torch.float32: 4e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
GATES = st.sampled_from(["", "silu", "gelu_tanh"])


def normal(device: str, dtype: torch.dtype, seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).to(device)


def operands(
    device: str, dtype: torch.dtype, seed: int, shape: tuple[int, int, int], extras: str, gate: str
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """x, weight and what else `extras` names. shape: tokens, n, k."""
    tokens, n, k = shape
    weight = normal(device, torch.float32, seed + 1, n, k).div_(k**0.5).to(dtype)
    more: dict[str, Any] = {"gated": gate}
    if "b" in extras:
        more["bias"] = normal(device, dtype, seed + 2, n)
    if "n" in extras:
        more["norm"] = normal(device, torch.float32, seed + 3, k)
        more["eps"] = 1e-6
    if "r" in extras:
        more["residual"] = normal(device, dtype, seed + 4, tokens, n // 2 if gate else n)
    return normal(device, dtype, seed, tokens, k), weight, more


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    torch.testing.assert_close(got, want, atol=STEP[got.dtype], rtol=STEP[got.dtype])


@settings(max_examples=16, deadline=None)
@given(
    tokens=st.integers(1, 8),
    n=st.integers(1, 12),
    k=st.sampled_from([8, 64, 100, 256, 576, 1024, 1100]),
    extras=st.sampled_from(["", "b", "n", "r", "bnr"]),
    gate=GATES,
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_fma(
    device: str,
    tokens: int,
    n: int,
    k: int,
    extras: str,
    gate: str,
    dtype: torch.dtype,
    seed: int,
) -> None:
    n *= 2 if gate else 1
    x, weight, more = operands(device, dtype, seed, (tokens, n, k), extras, gate)
    padded = 1 << (tokens - 1).bit_length()
    tiling = config(n, k, padded, 132, gated=bool(gate), dot=False)
    close(gemv(x, weight, tiling=tiling, **more), twin.gemv(x, weight, **more))


@settings(max_examples=8, deadline=None)
@given(
    tokens=st.integers(1, 8),
    n=st.sampled_from([32, 50]),
    k=st.sampled_from([64, 100, 256]),
    extras=st.sampled_from(["", "n", "bnr"]),
    gate=GATES,
    seed=st.integers(0, 99),
)
def test_dot(device: str, tokens: int, n: int, k: int, extras: str, gate: str, seed: int) -> None:
    # The interpreter's tl.dot takes bfloat16's bits for integers; tensor cores round float32.
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    x, weight, more = operands(device, dtype, seed, (tokens, n, k), extras, gate)
    tiling = GemvTiling("dot", 32, 64, 2, stages=2)
    got, want = gemv(x, weight, **more, tiling=tiling), twin.gemv(x, weight, **more)
    error = 3e-2 if dtype == torch.bfloat16 else 1e-5  # with a norm, x·g is rounded too
    torch.testing.assert_close(got, want, atol=error, rtol=error)


@pytest.mark.parametrize("tokens", [1, 2, 4, 8])
def test_the_same_sum_however_it_is_cut(device: str, tokens: int) -> None:
    x, weight, more = operands(device, torch.float32, 7, (tokens, 6, 640), "bnr", "silu")
    want = twin.gemv(x, weight, **more)
    for rows, block_k, warps in ((2, 128, 1), (4, 256, 2), (8, 1024, 4)):
        close(gemv(x, weight, **more, tiling=GemvTiling("fma", rows, block_k, warps)), want)


def test_strided_rows(device: str) -> None:
    wide, weight, _ = operands(device, torch.float32, 1, (3, 8, 128), "", "")
    x, residual = wide[:, 64:], wide[:, 8:16]
    weight = weight[:, :64].contiguous()
    got = gemv(x, weight, residual=residual)
    close(got, twin.gemv(x, weight, residual=residual))


def test_a_float32_residual_comes_out_in_both_widths(device: str) -> None:
    """What a decoder layer does: 16-bit operands, a float32 residual, and a 16-bit copy of it."""
    x, weight, more = operands(device, torch.float16, 2, (3, 24, 576), "b", "")
    residual = normal(device, torch.float32, 7, 3, 24)
    rounded = torch.empty(3, 24, dtype=torch.float16, device=device)
    got = gemv(x, weight, residual=residual, rounded=rounded, **more)
    want = twin.gemv(x, weight, residual=residual, **more)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, atol=2e-5, rtol=2e-5)
    close(rounded, want.half())
    logits = gemv(x, weight, out_dtype=torch.float32)
    torch.testing.assert_close(
        logits, twin.gemv(x, weight, out_dtype=torch.float32), atol=2e-5, rtol=2e-5
    )


def test_twice_the_same_bits(device: str) -> None:
    x, weight, more = operands(device, torch.float16, 2, (5, 24, 576), "bnr", "silu")
    assert torch.equal(gemv(x, weight, **more), gemv(x, weight, **more))


def test_a_large_residual_stream_does_not_overflow(device: str) -> None:
    """x·g leaves float16's range before the norm brings it back."""
    x = torch.full((8, 64), 3e4, dtype=torch.float16, device=device)
    weight = torch.eye(64, dtype=torch.float16, device=device)
    norm = torch.full((64,), 4.0, device=device)
    got = gemv(x, weight, norm=norm, eps=1e-6)
    close(got, torch.full_like(got, 4.0))


@pytest.mark.parametrize("t", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("n", "k"), [(28672, 4096), (4096, 14336), (1024, 2048), (151936, 1024), (192, 576), (1, 8)]
)
@pytest.mark.parametrize("itemsize", [2, 4])
def test_every_tiling_can_be_built(n: int, k: int, t: int, itemsize: int) -> None:
    for gated in (False, True):
        tiling = config(n, k, t, 132, gated=gated, dot=itemsize == 2)
        for size in (tiling.rows, tiling.block_k, tiling.warps):
            assert size & size - 1 == 0 < size
        assert tiling.rows >= 1 + gated, "a gate needs a pair"


def test_what_is_refused(device: str) -> None:
    x, weight, _ = operands(device, torch.float32, 0, (2, 4, 64), "", "")
    with pytest.raises(ValueError, match="1 to 8 rows"):
        gemv(x[:1].expand(9, 64), weight)
    with pytest.raises(ValueError, match="share K"):
        gemv(x[:, :32], weight)
    with pytest.raises(ValueError, match="row-major"):
        gemv(x, weight.T.contiguous().T)
    with pytest.raises(ValueError, match="gated must be"):
        gemv(x, weight, gated="relu")
    with pytest.raises(ValueError, match="even N"):
        gemv(x, weight[:3], gated="silu")
    with pytest.raises(ValueError, match="residual must be"):
        gemv(x, weight, residual=x)
