"""Decode attention over pages: one or a few queries per row, many keys (Flash-Decoding).

**Problem.** A decoding row multiplies one query with every key it has stored: two operations per
byte read, where the chip could do two hundred. Time is the bytes of K and V over the memory's
bandwidth, if enough of them are on their way at any moment; nothing else matters. Two things stand
in the way. Heads that share keys (GQA) would each fetch them again; and a batch of one with eight
KV heads is eight programs, on a chip with more than a hundred multiprocessors.

**Idea.** The queries of all heads that share keys, and of all new tokens of the row (speculation
verifies several), are packed as lines of one tile, line = query · group + head: keys are read once,
and the tile, padded to the 16 lines that the matrix unit wants, costs nothing that one would see.
The positions are dealt out to `num_splits` programs, tile by tile as one deals cards: split s takes
tiles s, s + used, s + 2 · used, ... Each ends with its own softmax of what it saw: a result and the
logarithm of its sum. Whoever finishes last, which a counter in memory tells, merges them:

    out = Σ exp(lse_s - L) · out_s,   L = log Σ exp(lse_s)

So there is one launch and no second kernel, whose start would cost as much as a short context does.

**Why nothing here depends on the host.** Contexts are read on the device, and how many splits are
worth using is decided there: a CUDA graph captured once with the largest number serves every
length. Splits that a short row does not need return at once, and where one is enough it writes the
result directly. `num_splits` only bounds the grid; see `choose_splits`.

**Trade-off.** Partial results are float32 and are written and read once: splits · lines · dim · 8
bytes, against the 4 · dim bytes of each position in 16 bits. A split needs `min_tiles` tiles.

Sources: Dao, Haziza, Massa, Sizov 2023, "Flash-Decoding for long-context inference"
(https://crfm.stanford.edu/2023/10/12/flashdecoding.html); Ainslie et al. 2023, arXiv:2305.13245
(GQA); Kwon et al. 2023, arXiv:2309.06180 (pages).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.kv import KVLayer
from pellucid.kernels.triton.flash import LOG2_E, check, tanh

PROGRAMS_PER_SM = 2
"""Programs at work on a multiprocessor that keep enough loads under way."""
SPLIT_TOKENS = 128
"""Positions below which a program of its own costs more than it saves."""
MAX_SPLITS = 32
"""The merge is one program's work, so it must stay small."""


class DecodeTiling(NamedTuple):
    """How the work of one launch is cut. What is fastest was measured; see `choose_tiling`."""

    block_n: int
    """Positions of a key tile; not above the page size."""
    num_warps: int
    num_stages: int
    """Key tiles in flight, less one that is in use."""
    min_tiles: int
    """Key tiles that a split must have."""


class Scratch(NamedTuple):
    """Where splits leave their results. One serves all layers: they run one after the other."""

    partials: Tensor
    """float32"""
    lse: Tensor
    """float32: log2 of each split's sum"""
    counters: Tensor
    """int32, zero between launches: splits that are done"""


def make_scratch(
    num_rows: int, heads: int, dim: int, num_splits: int, device: torch.device, num_new: int = 1
) -> Scratch:
    """A scratch that is large enough for up to so many rows, new tokens and splits."""
    lines = num_rows * num_new * heads * num_splits
    return Scratch(
        torch.empty(lines * dim, dtype=torch.float32, device=device),
        torch.empty(lines, dtype=torch.float32, device=device),
        torch.zeros(num_rows * heads, dtype=torch.int32, device=device),
    )


def choose_splits(num_rows: int, kv_heads: int, max_context: int, num_sms: int) -> int:
    """Programs per row and KV head: enough to fill the chip, each with `SPLIT_TOKENS` at least."""
    wanted = PROGRAMS_PER_SM * num_sms // (num_rows * kv_heads)
    return max(1, min(wanted, max_context // SPLIT_TOKENS, MAX_SPLITS))


@cache
def choose_tiling(dim: int, dtype: torch.dtype, page_size: int, lines: int) -> DecodeTiling:
    """The tiling for a head size, an element type and so many lines (new tokens · group)."""
    block_n = 64 if dim <= 128 else 32
    if lines > 16:
        block_n = 32
    if dtype == torch.float32:
        block_n = 16
    block_n = min(block_n, page_size)
    return DecodeTiling(block_n, 4, 4 if dim <= 128 else 3, SPLIT_TOKENS // block_n)


@triton.jit
def _merge(
    partials,
    lse,
    used,
    CHUNK: tl.constexpr,
    LINES: tl.constexpr,
    BLOCK_L: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The softmax over all positions from those of the splits: [BLOCK_L, BLOCK_D]."""
    lines = tl.arange(0, BLOCK_L)
    at_d = tl.arange(0, BLOCK_D)
    acc = tl.zeros([BLOCK_L, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_L], tl.float32)
    peak = tl.full([BLOCK_L], -1.0e30, tl.float32)
    for first in range(0, used, CHUNK):
        split = first + tl.arange(0, CHUNK)
        there = (split < used)[:, None] & (lines < LINES)[None, :]
        at = split[:, None] * LINES + lines[None, :]  # [CHUNK, BLOCK_L]
        logs = tl.load(lse + at, mask=there, other=float("-inf"))
        parts = tl.load(
            partials + at[:, :, None] * DIM + at_d[None, None, :],
            mask=there[:, :, None] & (at_d < DIM)[None, None, :],
            other=0.0,
        )  # [CHUNK, BLOCK_L, BLOCK_D]
        new_peak = tl.maximum(peak, tl.max(logs, 0))
        weights = tl.exp2(logs - new_peak[None, :])
        shrink = tl.exp2(peak - new_peak)
        peak = new_peak
        total = total * shrink + tl.sum(weights, 0)
        acc = acc * shrink[:, None] + tl.sum(parts * weights[:, :, None], 0)
    return acc / tl.where(total > 0, total, 1.0)[:, None]


@triton.jit(do_not_specialize=["window", "table_stride", "num_splits"])
def _decode_kernel(
    q,
    keys,
    values,
    out,
    partials,
    lse,
    counters,
    firsts,
    contexts,
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
    table_stride,
    num_splits,
    KV_HEADS: tl.constexpr,
    NUM_NEW: tl.constexpr,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_L: tl.constexpr,
    MIN_TILES: tl.constexpr,
    CHUNK: tl.constexpr,
    SPLIT: tl.constexpr,
    WINDOWED: tl.constexpr,
    SOFTCAPPED: tl.constexpr,
    PDL: tl.constexpr,
):
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    LINES: tl.constexpr = NUM_NEW * GROUP
    TILES_PER_PAGE: tl.constexpr = PAGE_SIZE // BLOCK_N
    head = tl.program_id(0)
    split = tl.program_id(1)
    row = tl.program_id(2)
    context = tl.load(contexts + row)
    if context == 0:
        return
    first_token = tl.load(firsts + row)
    table = tables + row.to(tl.int64) * table_stride

    first_tile = 0
    if WINDOWED:
        first_tile = tl.maximum(context - NUM_NEW - window + 1, 0) // BLOCK_N
    last_tile = tl.cdiv(context, BLOCK_N)
    used = 1
    if SPLIT:
        used = tl.maximum(tl.minimum((last_tile - first_tile) // MIN_TILES, num_splits), 1)
        if split >= used:
            return

    lines = tl.arange(0, BLOCK_M)
    at_n = tl.arange(0, BLOCK_N)
    at_d = tl.arange(0, BLOCK_D)
    token = (first_token + lines // GROUP).to(tl.int64)
    q_head = head * GROUP + lines % GROUP
    real = (lines < LINES)[:, None] & (at_d < DIM)[None, :]
    at = (token * q_token_stride + q_head * q_head_stride)[:, None] + at_d[None, :]
    tile_q = tl.load(q + at, mask=real, other=0.0)  # [BLOCK_M, BLOCK_D]
    # A line sees positions up to its limit; lines that only fill the tile do as the last.
    limits = context - NUM_NEW + tl.minimum(lines // GROUP, NUM_NEW - 1)

    head_start = head.to(tl.int64) * head_stride
    offsets = at_n[:, None] * position_stride + at_d[None, :]  # [BLOCK_N, BLOCK_D]
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    peak = tl.full([BLOCK_M], -1.0e30, tl.float32)  # finite: a line may see nothing of a tile
    first_tile += split
    page = tl.load(table + first_tile // TILES_PER_PAGE, mask=first_tile < last_tile, other=0)
    for tile in range(first_tile, last_tile, used):
        base = page.to(tl.int64) * page_stride + (tile % TILES_PER_PAGE) * BLOCK_N * position_stride
        # Looked up one round ahead: the loads of a tile need not wait for another load.
        coming = tile + used
        page = tl.load(table + coming // TILES_PER_PAGE, mask=coming < last_tile, other=0)
        positions = tile * BLOCK_N + at_n
        # Behind the context memory is whatever it is: 0 · NaN must not reach a sum.
        there = (positions < context)[:, None] & (at_d < DIM)[None, :]
        k = tl.load(keys + head_start + base + offsets, mask=there, other=0.0)
        v = tl.load(values + head_start + base + offsets, mask=there, other=0.0)
        scores = tl.dot(tile_q, k.T, input_precision="ieee")  # [BLOCK_M, BLOCK_N]
        if SOFTCAPPED:
            scores = tanh(scores * cap_scale)
        seen = positions[None, :] <= limits[:, None]
        if WINDOWED:
            seen &= positions[None, :] > limits[:, None] - window
        scores = tl.where(seen, scores * scale, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp2(scores - new_peak[:, None])
        shrink = tl.exp2(peak - new_peak)
        peak = new_peak
        total = total * shrink + tl.sum(weights, 1)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
    acc = acc / tl.where(total > 0, total, 1.0)[:, None]

    if used == 1:
        at = (token * out_token_stride + q_head * out_head_stride)[:, None] + at_d[None, :]
        tl.store(out + at, acc.to(out.dtype.element_ty), mask=real)
    if SPLIT and used > 1:
        pair = row * KV_HEADS + head
        partials += pair.to(tl.int64) * num_splits * LINES * DIM
        lse += pair.to(tl.int64) * num_splits * LINES
        place = split * LINES + lines
        tl.store(lse + place, peak + tl.log2(total), mask=lines < LINES)
        tl.store(partials + place[:, None] * DIM + at_d[None, :], acc, mask=real)
        tl.debug_barrier()  # all of this program's threads have stored before it counts as done
        if tl.atomic_add(counters + pair, 1, sem="acq_rel") == used - 1:
            tl.debug_barrier()
            merged = _merge(partials, lse, used, CHUNK, LINES, BLOCK_L, DIM, BLOCK_D)
            line = tl.arange(0, BLOCK_L)
            to = (first_token + line // GROUP).to(tl.int64) * out_token_stride
            to += (head * GROUP + line % GROUP) * out_head_stride
            tl.store(
                out + to[:, None] + at_d[None, :],
                merged.to(out.dtype.element_ty),
                mask=(line < LINES)[:, None] & (at_d < DIM)[None, :],
            )
            tl.store(counters + pair, 0)


def decode_attention(
    q: Tensor,
    kv: KVLayer,
    out: Tensor,
    firsts: Tensor,
    contexts: Tensor,
    tables: Tensor,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    num_new: int = 1,
    num_splits: int = 1,
    scratch: Scratch | None = None,
    tiling: DecodeTiling | None = None,
    pdl: bool = False,
) -> Tensor:
    """Causal attention of rows with `num_new` new tokens each, over pages; fills and returns `out`.

    q, out: [tokens, heads, dim], the last dimension dense; tokens of no row are left alone in out.
    kv: keys and values of q's dtype, of equal strides, the last 1; they hold the new tokens too.
    firsts: int32 [num_rows]: a row's queries are q[firsts[r]] and the num_new - 1 after it.
    contexts: int32 [num_rows], on the device: positions of the row, the new tokens included. A row
        of context 0 (a place that a captured graph has and the step does not need) is left alone.
    tables: int32 [num_rows, max_pages].
    pdl: start while the kernel before is still running, see gemv.py.
    scratch: of `make_scratch`; needed inside a captured graph if num_splits > 1.

    Query i of n sees positions 0 .. context - n + i; with window > 0 only the last `window` of
    them; with softcap > 0 a score is softcap · tanh(scale · q·k / softcap).
    Raises ValueError for shapes, strides and types that do not fit.
    """
    keys, values = kv.keys, kv.values
    _, page_size, kv_heads, dim = keys.shape
    check(q, kv, out)
    heads, num_rows = q.shape[1], len(contexts)
    group = heads // kv_heads
    lines = num_new * group
    if not (firsts.is_contiguous() and contexts.is_contiguous() and tables.stride(1) == 1):
        raise ValueError("firsts, contexts and the rows of tables must be dense")
    if tiling is None:
        tiling = choose_tiling(dim, q.dtype, page_size, lines)
    if tiling.block_n > page_size:
        raise ValueError(f"tiles of {tiling.block_n} positions do not fit pages of {page_size}")
    if num_splits > 1 and scratch is None:
        scratch = make_scratch(num_rows, heads, dim, num_splits, q.device, num_new)
    partials, lse, counters = scratch if num_splits > 1 and scratch else (None, None, None)
    if partials is not None and partials.numel() < num_rows * num_splits * num_new * heads * dim:
        raise ValueError("the scratch is too small for this many rows, splits and new tokens")
    block_d, block_l = triton.next_power_of_2(dim), triton.next_power_of_2(lines)
    _decode_kernel[(kv_heads, num_splits, num_rows)](
        q, keys, values, out, partials, lse, counters, firsts, contexts, tables,
        softcap * LOG2_E if softcap else scale * LOG2_E,
        scale / softcap if softcap else 1.0,
        window, q.stride(0), q.stride(1), out.stride(0), out.stride(1), *keys.stride()[:3],
        tables.stride(0), num_splits,
        KV_HEADS=kv_heads, NUM_NEW=num_new, GROUP=group, DIM=dim, BLOCK_D=block_d,
        PAGE_SIZE=page_size, BLOCK_M=max(16, block_l), BLOCK_N=tiling.block_n, BLOCK_L=block_l,
        MIN_TILES=tiling.min_tiles,
        CHUNK=max(1, min(MAX_SPLITS, 2048 * tiling.num_warps // (block_l * block_d))),
        SPLIT=num_splits > 1, WINDOWED=window > 0, SOFTCAPPED=softcap > 0, PDL=pdl,
        num_warps=tiling.num_warps, num_stages=tiling.num_stages,
        **({"launch_pdl": True} if pdl else {}),
    )  # fmt: skip
    return out
