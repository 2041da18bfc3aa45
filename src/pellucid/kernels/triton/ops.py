"""The small steps between the matrices, one launch each."""

from __future__ import annotations

from torch import Tensor

from pellucid.kernels.triton import gated as gated_kernel
from pellucid.kernels.triton import norm as norm_kernel
from pellucid.kernels.triton import rotary
from pellucid.kernels.triton.flash import on_hopper

FEW = 512
"""Tokens up to which a launch is short enough for the next to be started early (see gemv.py)."""


def starts_early(x: Tensor) -> bool:
    """Whether a kernel over x may start while the one before it still runs."""
    return len(x) <= FEW and on_hopper(x.device)


class TritonOps:
    """`kernels.ops.Ops` on an NVIDIA GPU."""

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return norm_kernel.rms_norm(x, weight, eps, pdl=starts_early(x))

    def add_norm(
        self, x: Tensor, branch: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        return norm_kernel.add_rms_norm(x, branch, weight, eps, pdl=starts_early(x))

    def rotate_and_write(
        self,
        qkv: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        rotation: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
        slots: Tensor,
    ) -> Tensor:
        early = starts_early(qkv)
        return rotary.rotate_and_write(qkv, norms, eps, rotation, keys, values, slots, pdl=early)

    def gated(self, gate_up: Tensor, activation: str) -> Tensor:
        return gated_kernel.gated(gate_up, activation, pdl=starts_early(gate_up))
