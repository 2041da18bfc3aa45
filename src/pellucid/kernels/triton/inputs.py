"""What a step derives from the few numbers that the host sends, in one launch.

One program a row. It looks the row's sequence up in the tables by place (block table, sampling
settings, the token sampled last) and writes down what the rest of the step reads row by row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.columns import NUM_COLUMNS, Column
from pellucid.kernels.rows import Prepared

_SEED_LOW = tl.constexpr(int(Column.SEED_LOW))
_SEED_HIGH = tl.constexpr(int(Column.SEED_HIGH))


def prepare(
    tokens: Tensor,
    positions: Tensor,
    places: Tensor,
    draw_places: Tensor,
    tables: Tensor,
    columns: Tensor,
    sampled: Tensor,
    page: int,
    out_tables: Tensor,
) -> Prepared:
    """Twin and meaning: `kernels.rows.prepare`."""
    rows = tokens.shape[0]
    # Whole 16 bytes a column: Triton compiles a kernel anew for other addresses.
    settings = columns.new_empty((NUM_COLUMNS, triton.cdiv(rows, 4) * 4))
    out = Prepared(
        torch.empty_like(tokens),
        torch.empty_like(tokens),
        torch.empty_like(tokens, dtype=torch.int32),
        torch.empty_like(tokens),
        settings[:, :rows],
        out_tables,
    )
    derive[(rows,)](
        tokens, positions, places, draw_places, tables, columns, sampled, *out,
        tables.stride(0), columns.stride(0), settings.stride(0), out_tables.stride(0), page,
        NUM=NUM_COLUMNS, WIDTH=128, num_warps=1,
    )  # fmt: skip
    return out


@triton.jit
def _mix(z):
    """SplitMix64's finalizer on uint64."""
    z += 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit
def derive(
    tokens, positions, places, draw_places, tables, columns, sampled,
    out_tokens, out_slots, out_contexts, out_keys, out_settings, out_tables,
    table_stride, column_stride, setting_stride, out_table_stride, page,
    NUM: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    token = tl.load(tokens + row)
    position = tl.load(positions + row)
    place = tl.load(places + row)
    if token < 0:
        token = tl.maximum(tl.load(sampled - 1 - token), 0)
    table = tables + place * table_stride
    block = tl.load(table + position // page)
    tl.store(out_tokens + row, token)
    tl.store(out_slots + row, block.to(tl.int64) * page + position % page)
    tl.store(out_contexts + row, (position + 1).to(tl.int32))

    place = tl.load(draw_places + row)
    low = tl.load(columns + _SEED_LOW * column_stride + place).to(tl.uint32, bitcast=True)
    high = tl.load(columns + _SEED_HIGH * column_stride + place).to(tl.uint32, bitcast=True)
    seed = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
    # The token to come takes the next position.
    key = _mix(_mix(seed) ^ (position + 2).to(tl.uint64))
    tl.store(out_keys + row, key.to(tl.int64))

    column = tl.arange(0, 16)
    there = column < NUM
    values = tl.load(columns + column * column_stride + place, mask=there, other=0)
    tl.store(out_settings + column * setting_stride + row, values, mask=there)

    used = position // page + 1
    for begin in range(0, used, WIDTH):
        at = begin + tl.arange(0, WIDTH)
        blocks = tl.load(table + at, mask=at < used, other=0)
        tl.store(out_tables + row * out_table_stride + at, blocks, mask=at < used)
