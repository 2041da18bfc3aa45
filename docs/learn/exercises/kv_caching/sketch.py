#!/usr/bin/env python
"""The sketch of a KV cache that is often drawn on a board, taken apart.

    python docs/learn/exercises/kv_caching/sketch.py

A decoder layer around torch's `nn.MultiheadAttention`, as the sketch has it, with its faults one by
one. Each variant reads a prompt and then single tokens, and is held against a pass without a cache.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

DIM, HEADS, LAYERS, VOCAB, PROMPT, LENGTH = 32, 4, 2, 64, 6, 12

Kept = tuple[torch.Tensor, torch.Tensor]


class Sketch(nn.Module):
    """A layer with a cache. Without a fault it is right.

    projects_twice: hands keys and values that are projected already to `nn.MultiheadAttention`,
    which projects what it gets. caches_output: keeps keys and values made of what the layer puts
    out instead of what it takes in.
    """

    def __init__(self, *, projects_twice: bool = False, caches_output: bool = False) -> None:
        super().__init__()
        self.projects_twice, self.caches_output = projects_twice, caches_output
        self.attn = nn.MultiheadAttention(DIM, HEADS, bias=False, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.ReLU(), nn.Linear(4 * DIM, DIM))

    def forward(self, x: torch.Tensor, kept: Kept | None) -> tuple[torch.Tensor, Kept]:
        """x [new, dim] → the same behind this layer, and keys and values [context, dim]."""
        made = self.keys_and_values(x)
        k, v = made if kept is None else map(torch.cat, zip(kept, made, strict=True))
        hidden = torch.ones(len(x), len(k), dtype=torch.bool).triu(len(k) - len(x) + 1)
        if self.projects_twice:
            h, _ = self.attn(x, k, v, attn_mask=hidden, need_weights=False)
        else:
            q = x @ self.attn.in_proj_weight[:DIM].T
            q, keys, values = (t.view(len(t), HEADS, -1).transpose(0, 1) for t in (q, k, v))
            h = scaled_dot_product_attention(q, keys, values, attn_mask=~hidden)
            h = self.attn.out_proj(h.transpose(0, 1).reshape(len(x), DIM))
        out = x + h
        out = out + self.mlp(out)
        if self.caches_output:
            made = self.keys_and_values(out)
            k, v = made if kept is None else map(torch.cat, zip(kept, made, strict=True))
        return out, (k, v)

    def keys_and_values(self, x: torch.Tensor) -> Kept:
        """`nn.MultiheadAttention` has no .k_proj and .v_proj: q, k and v share one matrix."""
        _, wk, wv = self.attn.in_proj_weight.chunk(3)
        return x @ wk.T, x @ wv.T


class Decoder(nn.Module):
    """Two such layers between an embedding and a head."""

    def __init__(self, **faults: bool) -> None:
        super().__init__()
        torch.manual_seed(0)  # the same weights for every variant
        self.embed = nn.Embedding(VOCAB, DIM)
        self.layers = nn.ModuleList(Sketch(**faults) for _ in range(LAYERS))
        self.double()

    def forward(
        self, tokens: torch.Tensor, cache: list[Kept | None]
    ) -> tuple[torch.Tensor, list[Kept | None]]:
        x, after = self.embed(tokens), []
        for layer, kept in zip(self.layers, cache, strict=True):
            x, kept = layer(x, kept)
            after.append(kept)
        return x @ self.embed.weight.T, after


@torch.no_grad()
def wrong_behind(**faults: bool) -> list[int]:
    """Behind which tokens (counted from 1) the logits differ from those without a cache."""
    torch.manual_seed(1)
    tokens = torch.randint(VOCAB, (LENGTH,))
    expected, _ = Decoder()(tokens, [None] * LAYERS)  # the whole at once needs no cache
    model, found, cache = Decoder(**faults), [], [None] * LAYERS
    for part in (tokens[:PROMPT], *tokens[PROMPT:].split(1)):
        logits, cache = model(part, cache)
        found.append(logits)
    differ = (torch.cat(found) - expected).abs().amax(1) > 1e-9
    return [n + 1 for n in differ.nonzero().flatten().tolist()]


def missing(name: str) -> str:
    """What Python says to `nn.MultiheadAttention(...).name`."""
    try:
        getattr(nn.MultiheadAttention(DIM, HEADS), name)
    except AttributeError as error:
        return str(error)
    return "it is there"


def main() -> None:
    print(f"attn.k_proj: {missing('k_proj')}")
    print(f"A prompt of {PROMPT} tokens, then {LENGTH - PROMPT} single ones:")
    for title, faults in (
        ("keys and values projected twice", {"projects_twice": True}),
        ("keys and values of the layer's output", {"caches_output": True}),
        ("projected once, of the layer's input", {}),
    ):
        wrong = wrong_behind(**faults)
        where = f"wrong logits behind tokens {wrong[0]} to {wrong[-1]}" if wrong else "all right"
        print(f"{title}: {where}")


if __name__ == "__main__":
    main()
