"""Write causal attention in tiles, with a running softmax: about 30 lines.

For each tile of queries go over the tiles of keys, and carry three things along:

    m [rows]        the largest score of each query so far
    l [rows]        the sum of exp(score - m) so far
    acc [rows, dim] the sum of exp(score - m) · value so far

A tile brings scores s. The largest score is now m' = max(m, largest of s), so what was summed up
before has to be brought to the new scale, by a = exp(m - m'):

    l   = a · l   + sum of exp(s - m')
    acc = a · acc + exp(s - m') @ values

In the end the tile of queries is acc / l. Tiles of keys behind the last query are not read at all.
"""

from __future__ import annotations

import torch


def flash_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tile: int = 32
) -> torch.Tensor:
    """q, k, v [n, dim] → [n, dim]; query i sees positions 0 .. i.

    No tensor is larger than n × dim or tile × tile. n need not be a multiple of the tile.
    """
    raise NotImplementedError("go over the tiles")
