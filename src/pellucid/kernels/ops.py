"""The small steps between the matrices, as one object: composed from torch, or fused in C.

`TorchOps` is the off form: each step is what its formula says, in tensor operations that run on any
device. `CpuOps` does each in one call of `cpu/step.c`, which for a single token is most of the
difference: the arithmetic is nothing, the calls are everything.

Shapes: T tokens. A step's result has the dtype of its input; sums are float32 inside.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.kernels.cpu.step import StepKernels
from pellucid.kernels.kv import KVLayer


class Ops(Protocol):
    """What a decoder layer needs besides matrices and attention."""

    def norm(
        self, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype | None = None
    ) -> Tensor:
        """x / rms(x) · weight over the last dimension, in `dtype` (None: x's).

        x: [T, dim], weight float32 [dim].
        """

    def add_norm(
        self, x: Tensor, branch: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """x + branch in x's dtype, and the norm of that in branch's. [T, dim] each."""

    def rotate_and_write(
        self,
        qkv: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        rotation: tuple[Tensor, Tensor],
        kv: KVLayer,
        slots: Tensor,
    ) -> Tensor:
        """Norm and turn q and k, store k and v; returns q [T, heads, dim].

        qkv [T, heads + 2·kv_heads, dim]; norms: weights of q and k, float32 [dim]; rotation: cos
        and sin, float32 [T, half]; slots int64 [T]: where in `kv`, seen flat, each token goes.
        """

    def gated(self, gate_up: Tensor, activation: str) -> Tensor:
        """act(gate) · up. [T, 2·width] → [T, width]; activation silu or gelu_tanh."""


class TorchOps:
    """Off: the formulas."""

    def norm(
        self, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype | None = None
    ) -> Tensor:
        return F.rms_norm(x.float(), weight.shape[-1:], eps=eps).mul_(weight).to(dtype or x.dtype)

    def add_norm(
        self, x: Tensor, branch: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        x = x + branch
        return x, self.norm(x, weight, eps, branch.dtype)

    def rotate_and_write(
        self,
        qkv: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        rotation: tuple[Tensor, Tensor],
        kv: KVLayer,
        slots: Tensor,
    ) -> Tensor:
        kv_heads = kv.num_kv_heads
        q, k, v = qkv[:, : -2 * kv_heads], qkv[:, -2 * kv_heads : -kv_heads], qkv[:, -kv_heads:]
        if norms is not None:
            q, k = self.norm(q, norms[0], eps), self.norm(k, norms[1], eps)
        cos, sin = (table[:, None, :].to(qkv.dtype) for table in rotation)
        kv.keys.flatten(0, 1).index_copy_(0, slots, rotate(k, cos, sin))
        kv.values.flatten(0, 1).index_copy_(0, slots, v)
        return rotate(q, cos, sin)

    def gated(self, gate_up: Tensor, activation: str) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        if activation == "silu":
            return F.silu(gate).mul_(up)
        return F.gelu(gate, approximate="tanh").mul_(up)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, halves layout: dimension i turns with i + half.

    x: [T, heads, dim]; cos, sin: [T, 1, half]. Dimensions past 2·half pass.
    Source: Su et al. 2021, arXiv:2104.09864.
    """
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)


class CpuOps:
    """One call of C each. Tensors must be float32 or bfloat16, on the CPU."""

    def __init__(self, kernels: StepKernels) -> None:
        self._kernels = kernels

    def norm(
        self, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self._kernels.norm(x, None, weight, eps)[1].to(dtype or x.dtype)

    def add_norm(
        self, x: Tensor, branch: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        total, h = self._kernels.norm(x, branch.to(x.dtype), weight, eps)
        return total, h.to(branch.dtype)

    def rotate_and_write(
        self,
        qkv: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        rotation: tuple[Tensor, Tensor],
        kv: KVLayer,
        slots: Tensor,
    ) -> Tensor:
        return self._kernels.rotate_and_write(qkv, norms, eps, rotation, kv, slots)

    def gated(self, gate_up: Tensor, activation: str) -> Tensor:
        return self._kernels.gated(gate_up, gelu=activation == "gelu_tanh")
