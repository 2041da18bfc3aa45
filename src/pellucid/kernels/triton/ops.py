"""The small steps between the matrices, one launch each."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.kernels.kv import KVLayer
from pellucid.kernels.triton import gated as gated_kernel
from pellucid.kernels.triton import norm as norm_kernel
from pellucid.kernels.triton import rotary
from pellucid.kernels.triton.flash import has_copy_engine


class TritonOps:
    """`kernels.ops.Ops` on an NVIDIA GPU."""

    def norm(
        self, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype | None = None
    ) -> Tensor:
        return norm_kernel.rms_norm(x, weight, eps, dtype, pdl=has_copy_engine(x.device))

    def add_norm(
        self, x: Tensor, branch: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        return norm_kernel.add_rms_norm(x, branch, weight, eps, pdl=has_copy_engine(x.device))

    def rotate_and_write(
        self,
        qkv: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        rotation: tuple[Tensor, Tensor],
        kv: KVLayer,
        slots: Tensor,
    ) -> Tensor:
        early = has_copy_engine(qkv.device)
        return rotary.rotate_and_write(qkv, norms, eps, rotation, kv, slots, pdl=early)

    def gated(self, gate_up: Tensor, activation: str) -> Tensor:
        return gated_kernel.gated(gate_up, activation, pdl=has_copy_engine(gate_up.device))
