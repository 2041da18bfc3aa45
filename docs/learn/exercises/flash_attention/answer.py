"""One way to write it."""

from __future__ import annotations

import torch


def flash_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tile: int = 32
) -> torch.Tensor:
    """q, k, v [n, dim] → [n, dim]; query i sees positions 0 .. i."""
    n, dim = q.shape
    out = torch.empty_like(q)
    for top in range(0, n, tile):
        rows = q[top : top + tile] / dim**0.5
        last = top + len(rows)  # positions behind it are hidden from every query of the tile
        m = torch.full((len(rows), 1), -torch.inf, dtype=q.dtype)
        total = torch.zeros_like(m)
        acc = torch.zeros_like(rows)
        for left in range(0, last, tile):
            keys, values = k[left : left + tile], v[left : left + tile]
            s = rows @ keys.T
            if left + len(keys) > top + 1:  # on the diagonal: some positions are hidden from some
                positions = torch.arange(left, left + len(keys))
                queries = torch.arange(top, last)[:, None]
                s = s.masked_fill(positions > queries, -torch.inf)
            highest = torch.maximum(m, s.amax(1, keepdim=True))
            weights = (s - highest).exp()
            rescale = (m - highest).exp()
            total = rescale * total + weights.sum(1, keepdim=True)
            acc = rescale * acc + weights @ values
            m = highest
        out[top:last] = acc / total
    return out
