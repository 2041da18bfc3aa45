"""Units do with a matrix what it states: a scaled one is never multiplied as plain numbers."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from pellucid.kernels.matrix import Matrix, Operand, PlainOperand
from pellucid.kernels.ops import TorchOps
from pellucid.kernels.triton.products import fused_product
from pellucid.kernels.triton.units import GemvUnits
from pellucid.kernels.units import Composed, Norm, Stream
from pellucid.quant.dense import DenseLinear
from pellucid.quant.linear import Stacked
from pellucid.stages import NullClock, WallClock

OUT, IN = 12, 32


class Scaled(Matrix):
    """Codes and one scale for each row, under the very names that a plain matrix has."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.scale = weight.abs().amax(1) / 7
        self.weight = (weight / self.scale[:, None]).round()
        self.bias = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.weight.T) * self.scale

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    @property
    def meant(self) -> torch.Tensor:
        """The numbers that codes and scale stand for."""
        return self.weight * self.scale[:, None]


class Codes(Operand):
    """Tensors of a kind that no kernel knows."""


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tokens", [1, 2, 8, 9])
@pytest.mark.parametrize("units", [GemvUnits, Composed])
def test_a_scaled_matrix_keeps_its_scale_at_every_batch(
    units: type[Composed], tokens: int, device: str
) -> None:
    """In each unit, fused or composed, it gives what a plain matrix of the same numbers gives."""
    unit = units(TorchOps(), torch.float32)
    scaled = Scaled(normal(0, OUT, IN).to(device))
    plain = DenseLinear(scaled.meant, None)
    square = Scaled(normal(1, IN, IN).to(device))
    norm = Norm(normal(2, IN).to(device), 1e-5)
    stream, h = Stream(normal(3, tokens, IN).to(device)), normal(4, tokens, IN).to(device)
    clock = NullClock()
    pairs = [
        [unit.norm_linear(stream, norm, m, clock)[1] for m in (scaled, plain)],
        [unit.norm_gated(stream, norm, m, "silu", clock)[1] for m in (scaled, plain)],
        [unit.norm_logits(stream, norm, m, clock) for m in (scaled, plain)],
        [unit.linear(h, m) for m in (scaled, plain)],
        [
            unit.add_linear(stream, h, m).total
            for m in (square, DenseLinear(square.meant, None))
        ],
    ]  # fmt: skip
    for got, want in pairs:
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_only_a_stated_operand_is_fused() -> None:
    weight = normal(0, OUT, IN)
    dense = DenseLinear(weight, None)
    assert dense.operand == PlainOperand(weight, None)
    assert fused_product(dense.operand) is not None
    assert Scaled(weight).operand is None and fused_product(None) is None
    assert Stacked([dense, dense]).operand is None, "several matrices are not one"
    assert fused_product(Codes()) is None


def test_logits_are_float32_and_go_where_they_are_wanted() -> None:
    x = normal(1, 3, IN).bfloat16()
    for matrix in (DenseLinear(normal(0, OUT, IN).bfloat16(), None), Scaled(normal(0, OUT, IN))):
        x = x.to(matrix.weight.dtype)
        logits, out = matrix.float32(x), torch.empty(3, OUT)
        meant = (matrix.meant if isinstance(matrix, Scaled) else matrix.weight).float()
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, x.float() @ meant.T, rtol=1e-5, atol=1e-5)
        assert matrix.float32(x, out) is out and torch.equal(out, logits)
        total = torch.ones(3, OUT)
        assert not matrix.add_to(total, x) and torch.equal(total, torch.ones(3, OUT))


def test_a_norm_ends_its_stage_where_a_unit_takes_it_alone(device: str) -> None:
    """Composed, always. Fused, only together with a sum: else its time is the product's."""
    matrix = DenseLinear(normal(0, OUT, IN).to(device), None)
    norm = Norm(torch.ones(IN, device=device), 1e-5)
    x = normal(1, 2, IN).to(device)
    many = normal(2, 9, IN).to(device)
    for units, stream, ends in (
        (Composed, Stream(x), True),
        (Composed, Stream(x, x), True),
        (GemvUnits, Stream(x), False),
        (GemvUnits, Stream(x, x), True),
        (GemvUnits, Stream(many), True),
    ):
        clock = WallClock()
        units(TorchOps(), torch.float32).norm_linear(stream, norm, matrix, clock)
        assert ("norm" in clock.ns) == ends
