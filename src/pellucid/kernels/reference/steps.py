"""Slow twins of the small steps and of the GEMV: the formulas, in float64, rounded once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.kernels.kv import KVLayer


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) · weight over the last dimension."""
    return _normed(x, weight, eps).to(x.dtype)


def add_rms_norm(x: Tensor, branch: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + branch, rounded to x's dtype, and the norm of that in branch's."""
    total = (x.double() + branch.double()).to(x.dtype)
    return total, _normed(total, weight, eps).to(branch.dtype)


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """act(gate) · up."""
    return _gated(gate_up.double(), activation).to(gate_up.dtype)


def rotate_and_write(
    qkv: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    rotation: tuple[Tensor, Tensor],
    kv: KVLayer,
    slots: Tensor,
) -> Tensor:
    """q normed and turned; k, the same, and v written to their slots, one token at a time."""
    page_size, kv_heads = kv.block_size, kv.num_kv_heads
    q, k, v = qkv.double().split((qkv.shape[1] - 2 * kv_heads, kv_heads, kv_heads), dim=1)
    if norms is not None:
        q, k = _normed(q, norms[0], eps), _normed(k, norms[1], eps)
    q, k = _turned(q, *rotation), _turned(k, *rotation)
    for token, slot in enumerate(slots.tolist()):
        place = slot // page_size, slot % page_size
        kv.keys[place] = k[token].to(kv.keys.dtype)
        kv.values[place] = v[token].to(kv.values.dtype)
    return q.to(qkv.dtype)


def gemv(
    x: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    norm: Tensor | None = None,
    eps: float = 0.0,
    residual: Tensor | None = None,
    gated: str = "",
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """act(norm(x) · weightᵀ + bias) + residual."""
    out = (x.double() if norm is None else _normed(x, norm, eps)) @ weight.double().T
    if bias is not None:
        out = out + bias.double()
    if gated:
        out = _gated(out, gated)
    if residual is not None:
        out = out + residual.double()
    return out.to(out_dtype or (weight if residual is None else residual).dtype)


def _normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x = x.double()
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.double()


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [T, heads, dim], cos and sin [T, half]."""
    half = cos.shape[1]
    cos, sin = cos.double()[:, None], sin.double()[:, None]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)


def _gated(gate_up: Tensor, activation: str) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    if activation == "silu":
        return F.silu(gate) * up
    return F.gelu(gate, approximate="tanh") * up
