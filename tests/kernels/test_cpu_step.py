"""The fused steps against the formulas in torch."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pellucid.kernels import make_units
from pellucid.kernels.kv import KVLayer
from pellucid.kernels.ops import CpuOps, Ops, TorchOps

CPU = torch.device("cpu")
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


def make_ops(fused: bool, dtype: torch.dtype) -> Ops:
    return make_units(fused, False, CPU, dtype).ops


@pytest.fixture(scope="module")
def fused() -> CpuOps:
    ops = make_ops(True, torch.float32)
    assert isinstance(ops, CpuOps)
    return ops


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    assert got.dtype == want.dtype
    error = 2e-6 if got.dtype == torch.float32 else 1.6e-2  # two steps of bfloat16
    torch.testing.assert_close(got, want, atol=error, rtol=error)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), dim=st.integers(1, 700), dtype=DTYPES, seed=st.integers(0, 99))
def test_norms(fused: CpuOps, rows: int, dim: int, dtype: torch.dtype, seed: int) -> None:
    x, branch = (normal(seed + i, rows, dim).mul_(3).to(dtype) for i in range(2))
    weight = normal(seed + 2, dim)
    close(fused.norm(x, weight, 1e-5), TorchOps().norm(x, weight, 1e-5))
    before = x.clone()
    for got, want in zip(
        fused.add_norm(x, branch, weight, 1e-5),
        TorchOps().add_norm(x, branch, weight, 1e-5),
        strict=True,
    ):
        close(got, want)
    assert torch.equal(x, before), "the residual that came in is left alone"


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 30),
    heads=st.sampled_from([(1, 1), (4, 2), (9, 3)]),
    half=st.integers(0, 12),
    rest=st.integers(0, 5),
    normed=st.booleans(),
    dtype=DTYPES,
    seed=st.integers(0, 99),
)
def test_rotation_and_write(
    fused: CpuOps,
    tokens: int,
    heads: tuple[int, int],
    half: int,
    rest: int,
    normed: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    num_heads, kv_heads = heads
    dim = max(1, 2 * half + rest)
    qkv = normal(seed, tokens, num_heads + 2 * kv_heads, dim).to(dtype)
    angle = normal(seed + 1, tokens, half)
    norms = (normal(seed + 2, dim), normal(seed + 3, dim)) if normed else None
    slots = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:tokens]
    results = []
    for ops in (fused, TorchOps()):
        kv = KVLayer(*torch.zeros(2, 10, 4, kv_heads, dim, dtype=dtype))
        rotation = (angle.cos(), angle.sin())
        q = ops.rotate_and_write(qkv, norms, 1e-5, rotation, kv, slots)
        results.append((q, kv.keys, kv.values))
    for got, want in zip(*results, strict=True):
        close(got, want)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 20),
    width=st.integers(1, 1200),
    activation=st.sampled_from(["silu", "gelu_tanh"]),
    scale=st.sampled_from([1.0, 10.0, 1000.0]),
    dtype=DTYPES,
    seed=st.integers(0, 99),
)
def test_gated_activation(
    fused: CpuOps,
    rows: int,
    width: int,
    activation: str,
    scale: float,
    dtype: torch.dtype,
    seed: int,
) -> None:
    gate_up = (normal(seed, rows, 2 * width) * scale).to(dtype)
    # In float64, because torch's own float32 tanh form loses digits where the gate is negative.
    close(
        fused.gated(gate_up, activation), TorchOps().gated(gate_up.double(), activation).to(dtype)
    )


def test_what_does_not_fit_is_refused(fused: CpuOps) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        fused.norm(torch.zeros(2, 8), torch.ones(7), 1e-5)
    with pytest.raises(ValueError, match="cannot be added"):
        fused.add_norm(torch.zeros(2, 8), torch.zeros(3, 8), torch.ones(8), 1e-5)
    kv = KVLayer(*torch.zeros(2, 2, 4, 1, 8))
    with pytest.raises(ValueError, match="does not fit"):
        fused.rotate_and_write(
            torch.zeros(2, 3, 6), None, 0, (torch.zeros(2, 3),) * 2, kv, torch.zeros(2)
        )


def test_without_fusion_the_steps_are_torchs() -> None:
    assert isinstance(make_ops(False, torch.float32), TorchOps)
