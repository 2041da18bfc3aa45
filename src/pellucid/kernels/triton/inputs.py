"""What a decode step derives from its few inputs, in one launch.

The host sends a token and a position for each row. Where the token's keys and values go, how much
context it has, the key of its random draw, and, if the token was sampled by the step before and the
host has never seen it, the token itself: all of that follows, and is computed here, on the device.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.decode import Prepared


def prepare(
    tokens: Tensor, positions: Tensor, tables: Tensor, seeds: Tensor, sampled: Tensor, page: int
) -> Prepared:
    """Twin and meaning: `kernels.decode.prepare`."""
    rows = tokens.shape[0]
    out = Prepared(
        torch.empty_like(tokens),
        torch.empty_like(tokens),
        torch.empty_like(tokens, dtype=torch.int32),
        torch.empty_like(tokens),
    )
    derive[(triton.cdiv(rows, 128),)](
        tokens, positions, tables, seeds, sampled, *out, rows, tables.stride(0), page, BLOCK=128
    )
    return out


@triton.jit
def _mix(z):
    """SplitMix64's finalizer on uint64."""
    z += 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit(do_not_specialize=["rows"])
def derive(
    tokens, positions, tables, seeds, sampled,
    out_tokens, out_slots, out_contexts, out_keys,
    rows, table_stride, page,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = row < rows
    token = tl.load(tokens + row, mask=here, other=0)
    position = tl.load(positions + row, mask=here, other=0)
    ahead = here & (token < 0)
    token = tl.where(ahead, tl.load(sampled - 1 - token, mask=ahead, other=0), token)
    block = tl.load(tables + row * table_stride + position // page, mask=here, other=0)
    seed = tl.load(seeds + row, mask=here, other=0).to(tl.uint64)
    # The token to come takes the next position.
    key = _mix(_mix(seed) ^ (position + 2).to(tl.uint64))
    tl.store(out_tokens + row, token, mask=here)
    tl.store(out_slots + row, block.to(tl.int64) * page + position % page, mask=here)
    tl.store(out_contexts + row, (position + 1).to(tl.int32), mask=here)
    tl.store(out_keys + row, key.to(tl.int64), mask=here)
