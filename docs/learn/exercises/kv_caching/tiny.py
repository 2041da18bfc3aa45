"""A decoder small enough to see through: two layers of 32 numbers, random weights, float64.

`forward` is the pass without a cache: all tokens in, the logits behind each of them out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

VOCAB, DIM, HEADS, LAYERS, LONGEST = 64, 32, 4, 2, 256


@dataclass
class Layer:
    """Matrices [inputs, outputs]."""

    wq: torch.Tensor
    wk: torch.Tensor
    wv: torch.Tensor
    wo: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


@dataclass
class Tiny:
    embed: torch.Tensor
    """[vocab, dim]"""
    position: torch.Tensor
    """[longest, dim]: added to the token at each position"""
    layers: list[Layer]


def make(seed: int = 0) -> Tiny:
    torch.manual_seed(seed)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, dtype=torch.float64) / rows**0.5

    layers = [
        Layer(*(matrix(DIM, DIM) for _ in range(4)), matrix(DIM, 4 * DIM), matrix(4 * DIM, DIM))
        for _ in range(LAYERS)
    ]
    embed, position = torch.randn(VOCAB + LONGEST, DIM, dtype=torch.float64).split([VOCAB, LONGEST])
    return Tiny(embed, position, layers)


def norm(x: torch.Tensor) -> torch.Tensor:
    """Each row to a length of √dim."""
    return x / x.square().mean(-1, keepdim=True).sqrt()


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The queries are the last of the positions: q [new, dim], k and v [context, dim] → [new, dim].

    Query i of n sees positions 0 .. context - n + i.
    """
    new, context = len(q), len(k)
    heads = [x.view(len(x), HEADS, -1).transpose(0, 1) for x in (q, k, v)]
    scores = heads[0] @ heads[1].transpose(1, 2) / heads[0].shape[-1] ** 0.5
    hidden = torch.ones(new, context, dtype=torch.bool).triu(context - new + 1)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return (weights @ heads[2]).transpose(0, 1).reshape(new, DIM)


def mlp(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(norm(x) @ layer.up) @ layer.down


def forward(model: Tiny, tokens: list[int]) -> torch.Tensor:
    """Logits [tokens, vocab]: row i is what the model says behind the first i + 1 tokens."""
    x = model.embed[tokens] + model.position[: len(tokens)]
    for layer in model.layers:
        h = norm(x)
        x = x + attend(h @ layer.wq, h @ layer.wk, h @ layer.wv) @ layer.wo
        x = x + mlp(layer, x)
    return norm(x) @ model.embed.T
