"""The small steps in Triton against their formulas in float64.

In the interpreter on a CPU, compiled on a GPU: `conftest.py` decides.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings

from pellucid.kernels.kv import KVLayer
from pellucid.kernels.reference import steps as twin
from pellucid.kernels.triton.gated import gated
from pellucid.kernels.triton.norm import add_rms_norm, rms_norm
from pellucid.kernels.triton.ops import TritonOps
from pellucid.kernels.triton.rotary import rotate_and_write
from pellucid.kernels.units import ADD_INSIDE_FROM, Composed, Stream
from pellucid.quant.dense import DenseLinear

DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
DIMS = st.sampled_from([64, 100, 128, 576, 640, 1024, 2560, 8192])
TOKENS = st.sampled_from([1, 3])
HEADS = st.sampled_from([(1, 1), (4, 2), (9, 3), (16, 2)])
DIMENSIONS = st.sampled_from([(64, 32), (128, 64), (128, 16), (80, 40), (100, 30), (64, 0)])
STEP = {torch.float32: 4e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
few = settings(max_examples=8, deadline=None)


def normal(device: str, dtype: torch.dtype, seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).mul_(2).to(dtype).to(device)


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    torch.testing.assert_close(got, want, atol=STEP[got.dtype], rtol=STEP[got.dtype])


@few
@given(rows=st.integers(1, 5), dim=DIMS, dtype=DTYPES, seed=st.integers(0, 99))
def test_norms(device: str, rows: int, dim: int, dtype: torch.dtype, seed: int) -> None:
    x, branch = (normal(device, dtype, seed + i, rows, dim) for i in range(2))
    weight = normal(device, torch.float32, seed + 2, dim)
    close(rms_norm(x, weight, 1e-5), twin.rms_norm(x, weight, 1e-5))
    before = x.clone()
    total, normed = add_rms_norm(x, branch, weight, 1e-5)
    want = twin.add_rms_norm(x, branch, weight, 1e-5)[0]
    if device == "cuda" or dtype != torch.bfloat16:  # the interpreter cuts bfloat16 off
        assert torch.equal(total, want), "the sum of two numbers rounds once"
    close(total, want)
    close(normed, twin.rms_norm(total, weight, 1e-5))
    assert torch.equal(x, before), "the residual that came in is left alone"


def test_the_norm_is_taken_of_the_rounded_sum(device: str) -> None:
    x = torch.full((1, 64), 2048.0, dtype=torch.float16, device=device)
    x[:, 1::2] = 0.0
    branch = torch.full_like(x, 0.75)  # 2048.75 has no place in float16
    weight = torch.ones(64, device=device)
    total, normed = add_rms_norm(x, branch, weight, 1e-6)
    assert total[0, 0] == 2048.0 and total[0, 1] == 0.75
    assert torch.equal(normed, rms_norm(total, weight, 1e-6))


def test_a_float32_residual_and_a_narrow_branch(device: str) -> None:
    x, branch = normal(device, torch.float32, 1, 5, 576), normal(device, torch.float16, 2, 5, 576)
    weight = normal(device, torch.float32, 3, 576)
    total, h = add_rms_norm(x, branch, weight, 1e-5)
    assert (total.dtype, h.dtype) == (torch.float32, torch.float16)
    for got, want in zip((total, h), twin.add_rms_norm(x, branch, weight, 1e-5), strict=True):
        close(got, want)
    assert rms_norm(x, weight, 1e-5, torch.float16).dtype == torch.float16


@pytest.mark.parametrize("heads", [1, 3])
def test_norm_of_heads_inside_a_larger_tensor(device: str, heads: int) -> None:
    qkv = normal(device, torch.float32, 0, 3, heads + 2, 64)
    q = qkv[:, 1 : heads + 1]
    weight = normal(device, torch.float32, 1, 64)
    close(rms_norm(q, weight, 1e-6), twin.rms_norm(q, weight, 1e-6))
    four = normal(device, torch.float32, 2, 2, 2, heads, 64)
    close(rms_norm(four, weight, 1e-6), twin.rms_norm(four, weight, 1e-6))


@few
@example(
    shape=(65, (2, 1), (64, 32)), normed=True, dtype=torch.float32, seed=0
)  # many tokens: larger programs
@given(
    shape=st.tuples(TOKENS, HEADS, DIMENSIONS),
    normed=st.booleans(),
    dtype=DTYPES,
    seed=st.integers(0, 99),
)
def test_rotation_and_write(
    device: str,
    shape: tuple[int, tuple[int, int], tuple[int, int]],
    normed: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    tokens, (num_heads, kv_heads), (dim, half) = shape
    qkv = normal(device, dtype, seed, tokens, num_heads + 2 * kv_heads, dim)
    norms = None
    if normed:
        first, second = (normal(device, torch.float32, seed + 1 + i, dim) for i in range(2))
        norms = first, second
    angles = normal(device, torch.float32, seed + 3, tokens, half)
    rotation = (angles.cos(), angles.sin())
    pages = 2 + tokens // 4
    slots = torch.randperm(pages * 4, generator=torch.Generator().manual_seed(seed))[:tokens]
    slots = slots.to(device)
    # Heads before slots inside a page, keys and values in one pool: any strides will do.
    pools = normal(device, dtype, seed + 4, pages, 2, kv_heads, 4, dim)
    copies = pools.clone()
    views = [KVLayer(*p.transpose(2, 3).unbind(1)) for p in (pools, copies)]
    got = rotate_and_write(qkv, norms, 1e-6, rotation, views[0], slots)
    want = twin.rotate_and_write(qkv, norms, 1e-6, rotation, views[1], slots)
    close(got, want)
    close(pools[:, 0], copies[:, 0])
    assert torch.equal(pools[:, 1], copies[:, 1]), "values are stored as they come"


def test_places_beyond_two_billion_elements(device: str) -> None:
    if device == "cpu":
        pytest.skip("9 GB of cache")
    keys = torch.empty(70_000, 16, 16, 128, dtype=torch.bfloat16, device=device)
    qkv = normal(device, torch.bfloat16, 0, 1, 48, 128)
    rotation = (torch.ones(1, 64, device=device), torch.zeros(1, 64, device=device))
    slots = torch.tensor([69_999 * 16 + 15], device=device)
    values = torch.empty_like(keys)
    rotate_and_write(qkv, None, 0.0, rotation, KVLayer(keys, values), slots)
    assert torch.equal(keys[-1, -1], qkv[0, 16:32])
    assert torch.equal(values[-1, -1], qkv[0, 32:])


@few
@given(
    tokens=st.integers(1, 4),
    width=st.sampled_from([1, 100, 1024, 1536]),
    activation=st.sampled_from(["silu", "gelu_tanh"]),
    dtype=DTYPES,
    seed=st.integers(0, 99),
)
def test_gate(
    device: str, tokens: int, width: int, activation: str, dtype: torch.dtype, seed: int
) -> None:
    gate_up = normal(device, dtype, seed, tokens, 2 * width)
    close(gated(gate_up, activation), twin.gated(gate_up, activation))


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gate_far_out(device: str, activation: str) -> None:
    """Where exp would overflow, the gate is open or shut."""
    gate = torch.tensor([[-1e5, -200.0, -90.0, 0.0, 90.0, 200.0, 1e5]], device=device)
    got = gated(torch.cat((gate, torch.ones_like(gate)), dim=1), activation)
    torch.testing.assert_close(got, gate.clamp(min=0.0), atol=1e-30, rtol=0.0)


def test_no_tokens(device: str) -> None:
    none = torch.empty(0, 64, device=device)
    assert rms_norm(none, torch.ones(64, device=device), 0.0).shape == (0, 64)
    assert gated(none, "silu").shape == (0, 32)


def test_what_is_refused(device: str) -> None:
    x = torch.zeros(2, 64, device=device)
    with pytest.raises(ValueError, match="weight must be float32"):
        rms_norm(x, torch.ones(32, device=device), 0.0)
    with pytest.raises(ValueError, match="contiguous"):
        rms_norm(x.T, torch.ones(2, device=device), 0.0)
    with pytest.raises(ValueError, match="alike"):
        add_rms_norm(x, x[:1], torch.ones(64, device=device), 0.0)
    with pytest.raises(ValueError, match="activation must be"):
        gated(x, "relu")
    with pytest.raises(ValueError, match="gate_up must be"):
        gated(x[:, :63], "silu")
    qkv = torch.zeros(2, 4, 64, device=device)
    pool = KVLayer(*torch.zeros(2, 1, 4, 1, 64, device=device))
    cut = KVLayer(pool.keys[..., :32], pool.values)
    turn = torch.zeros(2, 32, device=device)
    slots = torch.zeros(2, dtype=torch.int64, device=device)
    with pytest.raises(ValueError, match="slots must be int64"):
        rotate_and_write(qkv, None, 0.0, (turn, turn), pool, slots.int())
    with pytest.raises(ValueError, match="cos"):
        rotate_and_write(qkv, None, 0.0, (turn[:1], turn), pool, slots)
    with pytest.raises(ValueError, match="do not go with"):
        rotate_and_write(qkv, None, 0.0, (turn, turn), cut, slots)


@pytest.mark.gpu
@pytest.mark.parametrize("pending", [False, True], ids=["settled", "branch pending"])
def test_a_product_that_adds_to_the_residual(pending: bool) -> None:
    tokens, width, inner = ADD_INSIDE_FROM, 512, 768
    x = normal("cuda", torch.float32, 0, tokens, width)
    branch = normal("cuda", torch.bfloat16, 1, tokens, width) if pending else None
    h = normal("cuda", torch.bfloat16, 2, tokens, inner)
    matrix = DenseLinear(normal("cuda", torch.bfloat16, 3, width, inner), None)
    want = x.double() + h.double() @ matrix.weight.double().T
    if branch is not None:
        want += branch.double()
    units = Composed(TritonOps(), torch.bfloat16)
    got = units.add_linear(Stream(x.clone(), branch), h, matrix)
    assert got.branch is None and got.x.dtype == torch.float32
    torch.testing.assert_close(got.x.double(), want, atol=1e-2, rtol=1e-4)
