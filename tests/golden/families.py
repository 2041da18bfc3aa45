"""Weights that two sides can make alike: a function of the tensor's name."""

from __future__ import annotations

import zlib

import torch


def weight(name: str, shape: list[int]) -> torch.Tensor:
    """Normal numbers seeded with the name; norms stay near one, so that no layer goes quiet."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator)
    if "norm" in name:
        return 0.1 * values if "gemma" in name else 1 + 0.1 * values
    return 0.3 * values


PROMPT = [(7 * i * i + 3 * i + 1) % 64 for i in range(48)]
"""48 tokens of a vocabulary of 64."""
