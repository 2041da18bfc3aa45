"""One way to cache: each layer's keys and values, made of the layer's input, once per token."""

from __future__ import annotations

import tiny
import torch


class Cache:
    """Keys and values of each layer, [tokens so far, dim]."""

    def __init__(self) -> None:
        self.keys = [torch.empty(0, tiny.DIM, dtype=torch.float64)] * tiny.LAYERS
        self.values = list(self.keys)

    def append(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys[layer] = torch.cat([self.keys[layer], keys])
        self.values[layer] = torch.cat([self.values[layer], values])


def forward(model: tiny.Tiny, tokens: list[int], cache: Cache) -> torch.Tensor:
    """Logits [new tokens, vocab] of `tokens`, which follow those in the cache."""
    start = len(cache.keys[0])  # a new token stands behind the old ones, not at position 0
    x = model.embed[tokens] + model.position[start : start + len(tokens)]
    for index, layer in enumerate(model.layers):
        h = tiny.norm(x)
        cache.append(index, h @ layer.wk, h @ layer.wv)
        x = x + tiny.attend(h @ layer.wq, cache.keys[index], cache.values[index]) @ layer.wo
        x = x + tiny.mlp(layer, x)
    return tiny.norm(x) @ model.embed.T
