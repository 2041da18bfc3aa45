"""Rotary frequencies: how far each pair of dimensions turns per position.

Source: Su et al. 2021, arXiv:2104.09864; the ways of stretching them are named where they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pellucid.errors import InputError
from pellucid.model.spec import ModelSpec, RopeScaling

MAX_BYTES = 1 << 31
"""Of all tables: four million tokens with heads of 128 dimensions."""


class RopeTable:
    """cos and sin of every position up to `length`: float32 [length, dim/2] each.

    With dim 0 nothing rotates, and the tables have no columns.
    """

    def __init__(
        self, theta: float, dim: int, length: int, scaling: RopeScaling, device: torch.device
    ) -> None:
        inverse, factor = frequencies(theta, dim, scaling)
        angle = torch.arange(length, dtype=torch.float32)[:, None] * inverse[None, :]
        self.cos = angle.cos().mul_(factor).to(device)
        self.sin = angle.sin_().mul_(factor).to(device)

    def at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos, sin [tokens, dim/2] at positions [tokens]."""
        return self.cos[positions], self.sin[positions]


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


def rope_tables(spec: ModelSpec, length: int, device: torch.device) -> Sequence[RopeTable]:
    """The table of each layer. Layers that rotate alike share one.

    Raises `InputError` if `length` needs tables beyond any reason, before memory is taken for them.
    """
    dim = spec.rope_dim or spec.head_dim
    nbytes = length * dim * 4 * (1 if spec.rope_theta_local is None else 2)
    if nbytes > MAX_BYTES:
        raise InputError(
            f"a context of {length} tokens takes {nbytes / 2**30:.1f} GiB for rotary tables alone, "
            f"and {MAX_BYTES / 2**30:.0f} GiB is the most: set context_length to "
            f"{length * MAX_BYTES // nbytes} or less",
            param="context_length",
        )
    everywhere = RopeTable(spec.rope_theta, dim, length, spec.rope_scaling, device)
    local = everywhere
    if spec.rope_theta_local is not None:
        local = RopeTable(spec.rope_theta_local, dim, length, RopeScaling(), device)
    still = RopeTable(spec.rope_theta, 0, length, RopeScaling(), device)

    def of(layer: int) -> RopeTable:
        if not spec.rotates(layer):
            return still
        return local if spec.window(layer) else everywhere

    return [of(layer) for layer in range(spec.num_layers)]
