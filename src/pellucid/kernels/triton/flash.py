"""Prefill attention in tiles: the score matrix never exists (FlashAttention over pages).

**Problem.** out = softmax(scale · q kᵀ) v for n new tokens over c positions has n·c scores per
head. Written to memory and read back by the softmax, 16k tokens of 32 heads are 17 GB for one
layer: O(n²) memory, and a traffic beside which the arithmetic is nothing.

**Idea.** One program owns BLOCK_M queries and walks over the keys BLOCK_N at a time. A tile of
scores lives in registers, is used, and is gone; what stays is O(BLOCK_M) per program, O(n) in all.
The softmax needs the largest score of a whole line before its first exponential, which a walk does
not know yet. So each line keeps three running things: the largest score so far `peak`, the sum
`total` of exp(score - peak), and `acc`, the same sum weighted with the values. A tile that raises
the peak by δ makes what was summed before too large by exp(δ), for every term alike: one
multiplication of `total` and `acc` corrects it. At the end out = acc / total, exactly the softmax.
(Exponentials are taken to base 2, with log2 e folded into the scale: that is the instruction there
is, and one multiply-add makes its argument.)

**Pages.** Position p of a row lies in page table[p // page_size]. A tile of keys never spans pages,
so a tile costs one look-up and is one rectangle of memory: plain pointers can load it (any GPU),
or one request to Hopper's copy engine (TMA; `FlashTiling.boxes`), which needs no thread to compute
addresses. With three stages the compiler looks a page up one round before it is asked for.

**Heads that share keys** (GQA) are packed into one tile: its line is query · group + head, so that
a key tile is fetched once for all of them.

**Which tiles.** Queries see only what precedes them: tiles beyond the diagonal are not visited, the
few on the diagonal are masked in a second loop, and the first loop, where most of the time goes,
has no mask. With a sliding window, tiles that fell out of everybody's window are not visited, and
as few remain, one masked loop does all. A late query has far more keys to see than an early one, so
the host lists the tiles heavy first: the last programs to start are the short ones, and no
multiprocessor is left working alone at the end. The list begins with its own length: a captured
graph launches a program for every place that a list could fill, and those behind its end return.

Sources: Milakov & Gimelshein 2018, arXiv:1805.02867 (online softmax); Dao et al. 2022,
arXiv:2205.14135, and Dao 2023, arXiv:2307.08691 (the tiles); Kwon et al. 2023, arXiv:2309.06180
(pages); Shah et al. 2024, arXiv:2407.08608 (heavy tiles first, Hopper).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from pellucid.kernels.kv import KVLayer

LOG2_E = math.log2(math.e)


class FlashTiling(NamedTuple):
    """How the work of one launch is cut. What is fastest was measured; see `choose_tiling`."""

    block_m: int
    """Lines of a query tile; a line is one query of one head."""
    block_n: int
    """Positions of a key tile; not above the page size."""
    num_warps: int
    num_stages: int
    """Rounds in flight: page looked up, keys on their way, keys in use."""
    boxes: bool
    """Keys come by the copy engine (Hopper and later)."""
    heads_together: int
    """KV heads that run side by side; those of one group share the second-level cache."""


@cache
def choose_tiling(
    dim: int, dtype: torch.dtype, page_size: int, has_copy_engine: bool
) -> FlashTiling:
    """The tiling for a head size and an element type; `page_size` is a power of two."""
    if dtype == torch.float32:  # exact products, without matrix units: registers are the limit
        return FlashTiling(32, min(16, page_size), 8, 2, False, 64)
    boxes = has_copy_engine and dim in (64, 128, 256)
    if dim > 128:
        return FlashTiling(128, min(64, page_size), 8, 3, boxes, 64)
    return FlashTiling(128, min(64, page_size), 8, 5, boxes, 64)


def make_tiles(
    rows: Sequence[tuple[int, int, int]], group: int, block_m: int
) -> list[tuple[int, int]]:
    """Query tiles (row, first query of the tile within the row) of a batch, heavy first, behind an
    entry that says how many there are.

    rows: (first token, new tokens, context) each; group: query heads per KV head; block_m: of the
    `FlashTiling` that `flash_attention` will get.
    """
    step = block_m // group
    tiles = [
        (context - num_new + min(first + step, num_new), row, first)
        for row, (_, num_new, context) in enumerate(rows)
        for first in range(0, num_new, step)
    ]
    tiles.sort(reverse=True)
    return [(len(tiles), 0), *((row, first) for _, row, first in tiles)]


def most_tiles(num_tokens: int, num_rows: int, group: int, block_m: int) -> int:
    """Entries of the longest list that `make_tiles` gives for so many tokens in so many rows."""
    return 1 + num_tokens // (block_m // group) + num_rows


def _boxes(pool: Tensor, block_n: int) -> TensorDescriptor:
    """A layer's keys or values as a table of lines, for the copy engine.

    Where heads lie side by side (pages · positions · heads) a line is a position, else (pages ·
    heads · positions) it is a position of one head.
    """
    num_pages, _, kv_heads, dim = pool.shape
    page, position, head, _ = pool.stride()
    columns = kv_heads * head if head < position else dim
    return TensorDescriptor(
        pool, [num_pages * page // position, columns], [position, 1], [block_n, dim]
    )


def _box_steps(pool: Tensor) -> tuple[int, int, int]:
    """In that table: lines from page to page, from head to head, and columns from head to head."""
    page, position, head, _ = pool.stride()
    if page % position:
        raise ValueError(f"the page stride {page} is no multiple of the position stride {position}")
    if head < position:
        return page // position, 0, head
    return page // position, head // position, 0


@cache
def has_copy_engine(device: torch.device) -> bool:
    """Whether the device has a copy engine (TMA) and dependent launches: Hopper and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


@triton.jit
def tanh(x):
    """By way of the exponential: the interpreter has no other."""
    return 1.0 - 2.0 / (1.0 + tl.exp2(x * 2.885390081777927))


@triton.jit
def _sweep(
    running,
    tile_q,
    limits,
    tile_range,
    table,
    pool,
    boxes,
    context,
    window,
    scale,
    cap_scale,
    DIM: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
    BOXES: tl.constexpr,
    WINDOWED: tl.constexpr,
    SOFTCAPPED: tl.constexpr,
):
    """Take the key tiles of a range into the running softmax (acc, total, peak) of a query tile."""
    acc, total, peak = running
    first_tile, last_tile = tile_range
    keys, values, page_stride, position_stride = pool
    BLOCK_D: tl.constexpr = tile_q.shape[1]
    TILES_PER_PAGE: tl.constexpr = PAGE_SIZE // BLOCK_N
    at_n = tl.arange(0, BLOCK_N)
    at_d = tl.arange(0, BLOCK_D)
    offsets = at_n[:, None] * position_stride + at_d[None, :]  # [BLOCK_N, BLOCK_D]
    for tile in range(first_tile, last_tile):
        page = tl.load(table + tile // TILES_PER_PAGE)
        within = (tile % TILES_PER_PAGE) * BLOCK_N
        positions = tile * BLOCK_N + at_n
        if BOXES:
            key_boxes, value_boxes, box_page, box_line, box_column = boxes
            line = page * box_page + box_line + within
            k = key_boxes.load([line, box_column])
            v = value_boxes.load([line, box_column])
        else:
            base = page.to(tl.int64) * page_stride + within * position_stride
            if MASKED or DIM < BLOCK_D:
                # Behind the context memory is whatever it is: 0 · NaN must not reach a sum.
                there = (positions < context)[:, None] & (at_d < DIM)[None, :]
                k = tl.load(keys + base + offsets, mask=there, other=0.0)
                v = tl.load(values + base + offsets, mask=there, other=0.0)
            else:
                k = tl.load(keys + base + offsets)
                v = tl.load(values + base + offsets)
        scores = tl.dot(tile_q, k.T, input_precision="ieee")  # [BLOCK_M, BLOCK_N]
        if SOFTCAPPED:
            scores = tanh(scores * cap_scale)
        if MASKED:
            seen = positions[None, :] <= limits[:, None]
            if WINDOWED:
                seen &= positions[None, :] > limits[:, None] - window
            scores = tl.where(seen, scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1) * scale)
        weights = tl.exp2(scores * scale - new_peak[:, None])
        shrink = tl.exp2(peak - new_peak)
        peak = new_peak
        total = total * shrink + tl.sum(weights, 1)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
    return acc, total, peak


_VARYING = ["window", "box_page", "box_head", "box_column", "table_stride"]


@triton.jit(do_not_specialize=_VARYING)
def _flash_kernel(
    q,
    keys,
    values,
    out,
    key_boxes,
    value_boxes,
    tiles,
    rows,
    tables,
    scale,
    cap_scale,
    window,
    q_token_stride,
    q_head_stride,
    out_token_stride,
    out_head_stride,
    page_stride,
    position_stride,
    head_stride,
    box_page,
    box_head,
    box_column,
    table_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    HEADS_TOGETHER: tl.constexpr,
    BOXES: tl.constexpr,
    WINDOWED: tl.constexpr,
    SOFTCAPPED: tl.constexpr,
):
    # Programs of HEADS_TOGETHER heads follow each other: heavy tiles first, head beside head.
    program = tl.program_id(0)
    num_tiles = tl.load(tiles)
    if program >= num_tiles * KV_HEADS:
        return
    first_head = program // (num_tiles * HEADS_TOGETHER) * HEADS_TOGETHER
    abreast = tl.minimum(HEADS_TOGETHER, KV_HEADS - first_head)
    program -= first_head * num_tiles
    tile = program // abreast
    head = first_head + program % abreast

    row = tl.load(tiles + 2 + 2 * tile)
    first_query = tl.load(tiles + 2 + 2 * tile + 1)
    first_token = tl.load(rows + 3 * row)
    num_new = tl.load(rows + 3 * row + 1)
    context = tl.load(rows + 3 * row + 2)
    table = tables + row.to(tl.int64) * table_stride

    QUERIES: tl.constexpr = BLOCK_M // GROUP
    lines = tl.arange(0, BLOCK_M)
    at_d = tl.arange(0, BLOCK_D)
    query = first_query + lines // GROUP
    q_head = head * GROUP + lines % GROUP
    used = ((lines < QUERIES * GROUP) & (query < num_new))[:, None] & (at_d < DIM)[None, :]
    token = (first_token + query).to(tl.int64)
    at = (token * q_token_stride + q_head * q_head_stride)[:, None] + at_d[None, :]
    tile_q = tl.load(q + at, mask=used, other=0.0)  # [BLOCK_M, BLOCK_D]

    # A line sees positions up to its limit; lines that only fill the tile follow the last query.
    first_limit = context - num_new + first_query
    last_limit = tl.minimum(first_limit + QUERIES, context) - 1
    limits = tl.minimum(first_limit + lines // GROUP, last_limit)
    end = last_limit // BLOCK_N + 1

    head_start = head.to(tl.int64) * head_stride
    pool = (keys + head_start, values + head_start, page_stride, position_stride)
    boxes = (key_boxes, value_boxes, box_page, head * box_head, head * box_column)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    peak = tl.full([BLOCK_M], -1.0e30, tl.float32)  # finite: with a window a tile may be all masked
    running = (acc, total, peak)
    if WINDOWED:
        diagonal = tl.maximum(first_limit - window + 1, 0) // BLOCK_N
    else:
        diagonal = (first_limit + 1) // BLOCK_N
        running = _sweep(
            running, tile_q, limits, (0, diagonal), table, pool, boxes, context, window, scale,
            cap_scale, DIM, PAGE_SIZE, BLOCK_N, False, BOXES, WINDOWED, SOFTCAPPED,
        )  # fmt: skip
    acc, total, peak = _sweep(
        running, tile_q, limits, (diagonal, end), table, pool, boxes, context, window, scale,
        cap_scale, DIM, PAGE_SIZE, BLOCK_N, True, False, WINDOWED, SOFTCAPPED,
    )  # fmt: skip
    at = (token * out_token_stride + q_head * out_head_stride)[:, None] + at_d[None, :]
    tl.store(out + at, (acc / total[:, None]).to(out.dtype.element_ty), mask=used)


def flash_attention(
    q: Tensor,
    kv: KVLayer,
    out: Tensor,
    tiles: Tensor,
    rows: Tensor,
    tables: Tensor,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    tiling: FlashTiling | None = None,
) -> Tensor:
    """Causal attention of rows with many new tokens, over pages; fills and returns `out`.

    q, out: [tokens, heads, dim], the last dimension dense; tokens of no tile are left alone in out.
    kv: keys and values of q's dtype, of equal strides, the last 1; they hold the new tokens too.
    tiles: int32 [1 + num_tiles, 2] from `make_tiles`, made with the same tiling's `block_m`; what
        stands behind the list is not looked at.
    rows: int32 [num_rows, 3]: first token in q, new tokens, context (the new tokens included).
    tables: int32 [num_rows, max_pages].

    Query i of n sees positions 0 .. context - n + i; with window > 0 only the last `window` of
    them; with softcap > 0 a score is softcap · tanh(scale · q·k / softcap).
    Raises ValueError for shapes, strides and types that do not fit.
    """
    keys, values = kv.keys, kv.values
    _, page_size, kv_heads, dim = keys.shape
    group = q.shape[1] // kv_heads
    check(q, kv, out)
    if not (tiles.is_contiguous() and rows.is_contiguous() and tables.stride(1) == 1):
        raise ValueError("tiles, rows and the rows of tables must be dense")
    if tiling is None:
        tiling = choose_tiling(dim, q.dtype, page_size, has_copy_engine(q.device))
    block_m, block_n = tiling.block_m, tiling.block_n
    if block_n > page_size or block_m < group:
        raise ValueError(f"{tiling} does not fit pages of {page_size} and {group} heads a KV head")
    page, position, head, _ = keys.stride()
    k_boxes, v_boxes, steps = None, None, (0, 0, 0)
    if tiling.boxes:
        k_boxes, v_boxes = _boxes(keys, block_n), _boxes(values, block_n)
        steps = _box_steps(keys)
    _flash_kernel[((len(tiles) - 1) * kv_heads,)](
        q, keys, values, out, k_boxes, v_boxes, tiles, rows, tables,
        softcap * LOG2_E if softcap else scale * LOG2_E,
        scale / softcap if softcap else 1.0,
        window, q.stride(0), q.stride(1), out.stride(0), out.stride(1), page, position, head,
        *steps, tables.stride(0),
        KV_HEADS=kv_heads, GROUP=group, DIM=dim, BLOCK_D=triton.next_power_of_2(dim),
        PAGE_SIZE=page_size, BLOCK_M=block_m, BLOCK_N=block_n,
        HEADS_TOGETHER=tiling.heads_together, BOXES=tiling.boxes, WINDOWED=window > 0,
        SOFTCAPPED=softcap > 0, num_warps=tiling.num_warps, num_stages=tiling.num_stages,
    )  # fmt: skip
    return out


def check(q: Tensor, kv: KVLayer, out: Tensor) -> None:
    """Raise ValueError unless the tensors are as every attention kernel here needs them."""
    keys, values = kv.keys, kv.values
    _, page_size, kv_heads, dim = keys.shape
    if q.shape != out.shape or q.shape[2] != dim or q.shape[1] % kv_heads:
        raise ValueError(
            f"q {tuple(q.shape)} and out {tuple(out.shape)} do not fit keys {tuple(keys.shape)}"
        )
    if values.shape != keys.shape or values.stride() != keys.stride():
        raise ValueError("keys and values differ in shape or strides")
    if q.stride(2) != 1 or out.stride(2) != 1 or keys.stride(3) != 1:
        raise ValueError("the last dimension of q, out, keys and values must be dense")
    if not q.dtype == keys.dtype == values.dtype == out.dtype:
        raise ValueError(
            f"q is {q.dtype}, keys {keys.dtype}, values {values.dtype}, out {out.dtype}"
        )
    if page_size & (page_size - 1):
        raise ValueError(f"the page size is {page_size}, not a power of two")
