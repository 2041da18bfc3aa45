"""Give the tiny decoder a KV cache.

What stands here is right and slow: it keeps the tokens, and computes all of them again each time.
Keep keys and values instead, so that a new token costs one row of every product.
"""

from __future__ import annotations

import tiny
import torch


class Cache:
    """What is kept of the tokens so far. Your checks look at `keys` and `values`."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.keys: list[torch.Tensor] = []
        """Of each layer, [tokens so far, dim]"""
        self.values: list[torch.Tensor] = []


def forward(model: tiny.Tiny, tokens: list[int], cache: Cache) -> torch.Tensor:
    """Logits [new tokens, vocab] of `tokens`, which follow those in the cache.

    Afterwards the cache holds them as well. A first call with the whole prompt fills it; each
    further call brings one token, or several.
    """
    cache.tokens += tokens
    return tiny.forward(model, cache.tokens)[-len(tokens) :]
