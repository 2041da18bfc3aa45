"""The arithmetic between the matrices: norm, rotation, gated activation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from pellucid.model.spec import ModelSpec, RopeScaling


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / rms(x) · weight over the last dimension, computed in float32. Shapes: x as it is."""
    return F.rms_norm(x.float(), weight.shape[-1:], eps=eps).mul_(weight).to(x.dtype)


def gated(gate_up: torch.Tensor, activation: str) -> torch.Tensor:
    """act(gate) · up. gate_up: [tokens, 2 · intermediate] → [tokens, intermediate]."""
    gate, up = gate_up.chunk(2, dim=-1)
    if activation == "silu":
        return F.silu(gate).mul_(up)
    return F.gelu(gate, approximate="tanh").mul_(up)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding, halves layout: dimension i turns with i + rope_dim/2.

    x: [tokens, heads, dim]; cos, sin: [tokens, 1, rope_dim/2]. Dimensions past rope_dim pass.
    Source: Su et al. 2021, arXiv:2104.09864.
    """
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)


class RopeTable:
    """cos and sin of every position up to `length`: [length, 1, rope_dim/2] each."""

    def __init__(
        self, theta: float, dim: int, length: int, scaling: RopeScaling, device: torch.device
    ) -> None:
        inverse, factor = frequencies(theta, dim, scaling)
        angle = torch.arange(length, dtype=torch.float32)[:, None] * inverse[None, :]
        self.cos = (angle.cos() * factor)[:, None, :].to(device)
        self.sin = (angle.sin() * factor)[:, None, :].to(device)

    def at(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """cos, sin [tokens, 1, rope_dim/2] at positions [tokens]."""
        return self.cos[positions].to(dtype), self.sin[positions].to(dtype)


def frequencies(theta: float, dim: int, scaling: RopeScaling) -> tuple[torch.Tensor, float]:
    """Radians per position of each pair of dimensions [dim/2], and the factor on cos and sin."""
    inverse = theta ** -(torch.arange(0, dim, 2, dtype=torch.int64).float() / dim)
    if scaling.factors:
        return inverse / torch.tensor(scaling.factors, dtype=torch.float32), 1.0
    match scaling.kind:
        case "none":
            return inverse, 1.0
        case "linear":
            return inverse / scaling.factor, 1.0
        case "llama3":
            return _llama3(inverse, scaling), 1.0
        case "yarn":
            return _yarn(inverse, theta, dim, scaling), scaling.attention_factor
    raise ValueError(f"unknown rope scaling {scaling.kind!r}")


def _llama3(inverse: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, a ramp in between.

    Source: Llama 3.1 model card and code.
    """
    turns = scaling.original_context * inverse / (2 * math.pi)  # over the trained context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return inverse * keep + inverse / scaling.factor * (1 - keep)


def _yarn(inverse: torch.Tensor, theta: float, dim: int, scaling: RopeScaling) -> torch.Tensor:
    """As llama3, with a ramp over the index of the dimension. Source: arXiv:2309.00071."""

    def index_of(turns: float) -> float:
        """The dimension that makes so many turns over the trained context."""
        return (
            dim * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))
        )

    low, high = index_of(scaling.beta_fast), index_of(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return inverse * (1 - ramp) + inverse / scaling.factor * ramp


def rope_tables(spec: ModelSpec, length: int, device: torch.device) -> tuple[RopeTable, RopeTable]:
    """Tables of the layers that see everything and of those with a sliding window."""
    dim = spec.rope_dim or spec.head_dim
    everywhere = RopeTable(spec.rope_theta, dim, length, spec.rope_scaling, device)
    if spec.rope_theta_local is None:
        return everywhere, everywhere
    return everywhere, RopeTable(spec.rope_theta_local, dim, length, RopeScaling(), device)
