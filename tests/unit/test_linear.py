"""Linear layers and embeddings: the methods agree, and share, refuse and fall back as they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import InputError
from pellucid.kernels import status
from pellucid.quant import dense
from pellucid.quant.blocks import BLOCKS
from pellucid.quant.dense import DenseEmbedding, DenseLinear
from pellucid.quant.linear import (
    Stacked,
    head_method,
    in_strips,
    make_embedding,
    make_linear,
)
from pellucid.quant.packed import Packed, PackedEmbedding, PackedLinear
from pellucid.quant.strips import StripsEmbedding, StripsLinear
from pellucid.quant.weight import BlockWeight, PlainWeight, StoredWeight

CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(not status().ready, reason=status().line)
METHODS = ["dense", pytest.param("packed", marks=needs_kernels)]
STRIPS = [pytest.param(name, marks=needs_kernels) for name in ("dense strips", "packed strips")]


def weight(kind: str, n: int, k: int, seed: int = 0, name: str = "w") -> StoredWeight:
    """Random numbers, or random blocks whose numbers are of an ordinary size."""
    make = torch.Generator().manual_seed(seed)
    if kind not in BLOCKS:
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
        return PlainWeight(name, torch.randn(n, k, generator=make).mul(0.1).to(dtype))
    form = BLOCKS[kind]
    data = torch.randint(
        0, 256, (n, k // form.size, form.nbytes), dtype=torch.uint8, generator=make
    )
    factors = {"Q4_0": [0], "Q5_0": [0], "Q8_0": [0], "Q6_K": [208]}
    for at in factors.get(kind, [0, 2]):
        data[..., at : at + 2] = torch.tensor([0.005]).half().view(torch.uint8)
    return BlockWeight(name, kind, (n, k), data.view(n, -1))


def linear(
    parts: list[StoredWeight],
    bias: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    method: str = "packed",
) -> Any:
    return make_linear(parts, bias, dtype=dtype, device=CPU, method=method)


def want(
    parts: list[StoredWeight], x: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    out = x.double() @ torch.cat([part.dense(torch.float64) for part in parts]).T
    return out if bias is None else out + bias.double()


def assert_close(
    got: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype = torch.float32
) -> None:
    scale = expected.abs().mean().item()
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}[dtype]
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*BLOCKS, "F32", "BF16", "F16"]), st.integers(1, 40)),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 30),
    st.booleans(),
)
def test_any_parts(method: str, kinds: list[tuple[str, int]], m: int, biased: bool) -> None:
    parts = [weight(kind, n, 256, seed) for seed, (kind, n) in enumerate(kinds)]
    bias = torch.randn(sum(n for _, n in kinds)) if biased else None
    x = torch.randn(m, 256)
    layer = linear(parts, bias, method=method)
    got = layer(x)
    assert got.shape == (m, sum(n for _, n in kinds)) and got.dtype == x.dtype
    if m:
        assert_close(got, want(parts, x, bias))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [1, 5, 40])
def test_half_precision_activations(dtype: torch.dtype, method: str, m: int) -> None:
    parts = [weight("Q4_1", 40, 64), weight("Q8_0", 24, 64)]
    bias = torch.randn(64)
    x = torch.randn(m, 64).to(dtype)
    got = linear(parts, bias, dtype, method)(x)
    assert got.dtype == dtype
    assert_close(got, want(parts, x, bias), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [1, 5, 40])
@pytest.mark.parametrize("kind", ["Q8_0", "BF16"])
def test_a_product_in_float32_is_rounded_nowhere(
    kind: str, dtype: torch.dtype, method: str, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of the operands, whatever their dtype, and not one of their dtype widened."""
    monkeypatch.setattr(dense, "SLICE", 16 * 64)  # slices that do not divide the rows
    part, bias, x = weight(kind, 40, 64), torch.randn(40).to(dtype), torch.randn(m, 64).to(dtype)
    for way in {method, head_method(method, dtype, CPU)}:
        numbers = part.dense(dtype if method == "dense" else torch.float32)
        expected = x.double() @ numbers.double().T + bias.double()
        layer = linear([part], bias, dtype, way)
        got, out = layer.float32(x), torch.empty(m, 40)
        assert got.dtype == torch.float32
        assert_close(got, expected)
        assert torch.equal(layer.float32(x, out), got) and torch.equal(out, got)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["dense", "packed"])
@pytest.mark.parametrize("kind", ["Q4_1", "Q6_K", "BF16", "F16", "F32"])
def test_in_strips_a_row_depends_on_that_row_alone(
    kind: str, method: str, dtype: torch.dtype
) -> None:
    """To the bit, however many there are; and the result is that of the other methods."""
    parts, bias = [weight(kind, n, 256, n) for n in (40, 24)], torch.randn(64)
    x = torch.randn(50, 256).to(dtype)
    layer = linear(parts, bias, dtype, in_strips(method))
    assert isinstance(layer, StripsLinear)
    alone = torch.cat([layer(x[i : i + 1]) for i in range(50)])
    wide = torch.cat([layer.float32(x[i : i + 1]) for i in range(50)])
    for count in (2, 3, 16, 17, 50):
        assert torch.equal(layer(x[:count]), alone[:count])
        assert torch.equal(layer.float32(x[:count]), wide[:count])
    assert_close(alone, want(parts, x, bias), dtype)


@needs_kernels
def test_a_bfloat16_head_on_a_cpu_lies_in_strips_of_bfloat16() -> None:
    for method in ("dense", "packed"):
        assert head_method(method, torch.bfloat16, CPU) == f"{method} strips" == in_strips(method)
        assert head_method(in_strips(method), torch.bfloat16, CPU) == in_strips(method)
        assert head_method(method, torch.float32, CPU) == method
        assert head_method(method, torch.bfloat16, torch.device("cuda")) == method
    part = weight("F32", 40, 64)
    assert linear([part], None, torch.bfloat16, "dense strips").nbytes == 2 * 48 * 64
    assert linear([part], None, torch.float32, "dense strips").nbytes == 4 * 48 * 64
    assert linear([weight("BF16", 40, 64)], method="dense strips").nbytes == 2 * 48 * 64


@needs_kernels
def test_expanding_for_bfloat16_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of processors that have them, on any: in slices that do not divide the rows."""
    from pellucid.quant import packed

    monkeypatch.setattr(packed, "SLICE", 16 * 64)
    part, bias = weight("Q5_1", 40, 64), torch.randn(40)
    layer = linear([part], bias, torch.bfloat16)
    layer.use_bf16_units = True
    x = torch.randn(packed.MIN_BF16_ROWS, 64).bfloat16()
    assert_close(layer(x), want([part], x, bias), torch.bfloat16)
    assert torch.equal(layer(x), layer.expand_and_multiply(x))


@needs_kernels
def test_parts_of_one_kind_are_one_matrix() -> None:
    same = [weight("Q4_1", n, 64) for n in (40, 8, 8)]
    assert isinstance(linear(same), PackedLinear)
    mixed = linear([weight("Q4_1", 16, 64), weight("Q4_1", 8, 64), weight("Q8_0", 8, 64)])
    assert isinstance(mixed, Stacked)
    assert [type(piece) for piece in mixed.pieces] == [PackedLinear, PackedLinear]
    assert isinstance(linear(same, method="dense"), DenseLinear)


@needs_kernels
def test_packed_leaves_plain_numbers_to_dense() -> None:
    for kind in ("BF16", "F32"):
        assert Packed().why_not(weight(kind, 16, 256)) == f"{kind} numbers are not in blocks"
    assert not Packed().why_not(weight("Q6_K", 16, 256))
    layer = linear([weight("Q4_1", 16, 64), weight("F32", 16, 64)])
    assert isinstance(layer, Stacked)
    assert [type(piece) for piece in layer.pieces] == [PackedLinear, DenseLinear]


class Scaled(StoredWeight):
    """8-bit codes and a scale for each row: a weight of two tensors, of a kind nobody has met."""

    def __init__(self, name: str, codes: torch.Tensor, scales: torch.Tensor) -> None:
        super().__init__(name, "I8 per row", tuple(codes.shape))
        self.codes, self.scales = codes, scales

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.codes, self.scales)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        return (self.codes * self.scales[:, None]).to(dtype)

    def to(self, device: torch.device) -> Scaled:
        return Scaled(self.name, self.codes.to(device), self.scales.to(device))

    def select_rows(self, index: torch.Tensor) -> Scaled:
        return Scaled(self.name, self.codes[index], self.scales[index])


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_of_two_tensors_is_multiplied_by_whoever_takes_it(method: str) -> None:
    """Beside blocks in one layer, and as an embedding whose tied head is the same memory."""
    codes, scales = torch.randint(-127, 128, (24, 64)).to(torch.int8), torch.rand(24) / 127
    scaled = Scaled("w", codes, scales)
    assert scaled.nbytes == 24 * 64 + 24 * 4
    parts = [weight("Q8_0", 16, 64), scaled, weight("F32", 8, 64)]
    x = torch.randn(3, 64)
    assert_close(linear(parts, method=method)(x), want(parts, x))
    order = torch.tensor([3, 1])
    assert torch.equal(
        scaled.select_rows(order).dense(torch.float32), (codes * scales[:, None])[order]
    )
    embed = make_embedding(scaled, dtype=torch.float32, device=CPU, method=method)
    assert isinstance(embed, DenseEmbedding)
    again, other = Scaled("head", codes, scales), Scaled("other", codes, scales.clone())
    assert linear([again], method=method).weight.data_ptr() == embed.weight.data_ptr()
    assert linear([other], method=method).weight.data_ptr() != embed.weight.data_ptr()


def test_bytes_read_by_a_call() -> None:
    part = weight("Q8_0", 32, 64)
    assert linear([part], method="dense").nbytes == 32 * 64 * 4
    if status().ready:
        assert linear([part]).nbytes == part.nbytes
        assert linear([part, weight("F32", 4, 64)]).nbytes == part.nbytes + 4 * 64 * 4


@pytest.mark.parametrize("method", [*METHODS, *STRIPS])
@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K", "F32", "BF16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_embedding(method: str, kind: str, dtype: torch.dtype) -> None:
    if dtype == torch.float16 and method.endswith("strips"):
        pytest.skip("not for float16")
    table = weight(kind, 37, 256)
    embed = make_embedding(table, dtype=dtype, device=CPU, method=method)
    ids = torch.tensor([3, 36, 0, 3])
    assert torch.equal(embed(ids), table.dense(torch.float32)[ids].to(dtype))
    with pytest.raises(IndexError):
        embed(torch.tensor([37]))


@pytest.mark.parametrize("method", [*METHODS, *STRIPS])
def test_tied_head_shares_the_embeddings_memory(method: str) -> None:
    table = weight("Q8_0", 64, 64)
    again = BlockWeight(
        "head", table.kind, table.shape, table.tensors[0].view(64, -1)
    )  # same memory
    embed = make_embedding(table, dtype=torch.float32, device=CPU, method=method)
    head = linear([again], method=method)
    if isinstance(embed, PackedEmbedding):
        assert isinstance(head, PackedLinear)
        assert head.matrix.data.data_ptr() == embed.matrix.data.data_ptr()
    elif isinstance(embed, StripsEmbedding):
        assert isinstance(head, StripsLinear)
        assert head.matrix.data.data_ptr() == embed.matrix.data.data_ptr()
    else:
        assert isinstance(head, DenseLinear)
        assert isinstance(embed, DenseEmbedding)
        assert head.weight.data_ptr() == embed.weight.data_ptr()
    x = torch.randn(3, 64)
    assert_close(head(x), want([table], x))
    other = linear([weight("Q8_0", 64, 64, seed=1)], method=method)
    assert not torch.equal(other(x), head(x))


@needs_kernels
def test_a_table_is_forgotten_with_its_embedding() -> None:
    from pellucid.quant.linear import _embeddings

    before = len(_embeddings)
    embed = make_embedding(weight("Q8_0", 64, 64), dtype=torch.float32, device=CPU, method="packed")
    assert len(_embeddings) == before + 1
    del embed
    assert len(_embeddings) == before


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(
        InputError,
        match="for the CPU, and the device is cuda; or use weights dense",
    ):
        make_linear(
            [weight("Q4_1", 4, 32)],
            None,
            dtype=torch.float32,
            device=torch.device("cuda"),
            method="packed",
        )
    with pytest.raises(ValueError, match="share an input"):
        linear([weight("F32", 4, 32), weight("F32", 4, 64)], method="dense")
    with pytest.raises(ValueError, match="share an input"):
        linear([], method="dense")
    with pytest.raises(ValueError, match="bias"):
        linear([weight("F32", 4, 32)], torch.zeros(5), method="dense")
    with pytest.raises(ValueError, match="unknown linear method"):
        linear([weight("F32", 4, 32)], method="sparse")
