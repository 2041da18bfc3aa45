"""Prefill attention for Hopper: matrix units and exponentials busy at the same time.

**Problem.** A tile of 128 × 128 scores at head size 128 keeps Hopper's matrix units busy for 1024
clocks, and its 16384 exponentials keep the special function units busy for 1024 clocks as well.
flash.py does one after the other in each warp and leaves it to chance that another warp fills the
gap. What limits it is waiting.

**Idea.** Everything that can wait is made asynchronous, and roles are divided (FlashAttention-3):

- One *producer* warp does nothing but ask the copy engine (TMA) for the next tiles of keys and of
  values, into rings of STAGES tiles in shared memory. It needs few registers and gives the rest of
  its share to the others (setmaxnreg).
- Two *consumer* warpgroups own 64 lines of queries each. They tell the producer which tile they
  are done with, and it tells them which has arrived: two barriers in shared memory per slot of a
  ring, `full` and `empty`, whose phase flips each time round.
- Within a consumer the matrix products run ahead: the scores of the *next* tile and the weighted
  sum of the *current* one are both under way while nothing waits for the sum; it is only needed
  after the next tile's exponentials.

        matrix units   S1 = q·K1   O += P0·V0   S2 = q·K2   O += P1·V1
        the others                 P1 = exp(S1) ........    P2 = exp(S2)

- The weights P never leave the registers: the layout in which a product of the matrix units ends
  is the one in which they take a left operand.

**Order.** Keys are taken last to first. The tiles on the diagonal, which need a mask, come first
and fill the pipeline; the long rest has no mask, and the walk ends without a special case.

**Grid.** As many programs as there are multiprocessors, each of which takes its turn in one list of
(query tile, head), heavy first, to and fro (0 1 2 | 2 1 0 | ...), so that all get about the same.
The producer is then never idle between two tiles of queries: it fetches for the next one while the
consumers still write out the last.

Trade-offs. 232 KiB of shared memory and all registers go to one program per multiprocessor: no
second program covers for it. Half of a diagonal tile is computed for nothing in the upper warpgroup.
Only 16-bit types, head sizes 64 and 128, groups that divide 128, no window and no softcap:
`fits` says so, and flash.py does the rest. Memory behind a context, up to the end of its last page,
must be finite: it is weighted with 0, and 0 · NaN is NaN. (The pool of pages begins as zeros.)

Sources: Shah et al. 2024, arXiv:2407.08608 (FlashAttention-3); Milakov & Gimelshein 2018,
arXiv:1805.02867 (online softmax); see flash.py for the tiles and the pages.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from pellucid.kernels.triton.flash import LOG2_E, _box_steps, _boxes, check, on_hopper

BLOCK_M = 128
"""Lines of a query tile, for `make_tiles`; a line is one query of one head."""


class HopperTiling(NamedTuple):
    """How the work of one launch is cut."""

    block_n: int = 128
    """Positions of a key tile; not above the page size."""
    stages: int = 2
    """Tiles of keys, and of values, that a ring holds."""
    consumers: int = 2
    """2: each warpgroup for itself. 1: both in step, as one consumer of 128 lines."""
    in_turns: bool = False
    """Warpgroups issue their products in turns, so that one's exponentials meet the other's."""
    persistent: bool = True
    """One program per multiprocessor (else one per tile and head)."""
    heads_together: int = 64
    """KV heads that run side by side."""


def fits(q: Tensor, keys: Tensor, *, window: int = 0, softcap: float = 0.0) -> bool:
    """Whether `flash_attention_hopper` can do this; else `flash_attention` must."""
    _, page_size, kv_heads, dim = keys.shape
    return (
        on_hopper(q.device)
        and torch.cuda.get_device_capability(q.device)[0] == 9
        and q.dtype in (torch.bfloat16, torch.float16)
        and dim in (64, 128)
        and page_size >= 64
        and BLOCK_M % (q.shape[1] // kv_heads) == 0
        and not window
        and not softcap
    )


@gluon.jit
def _slot(count, STAGES: gl.constexpr):
    """Where in a ring the tile number `count` lies, and in which of the two phases."""
    return count % STAGES, (count // STAGES) & 1


@gluon.jit
def _turns(total):
    """How many of the `total` items this program takes."""
    programs = gl.num_programs(0)
    rounds = total // programs
    return rounds + (_item(rounds) < total).to(gl.int32)


@gluon.jit
def _item(turn):
    """The item of a turn: there and back again through the programs."""
    programs = gl.num_programs(0)
    program = gl.program_id(0)
    back = turn % 2
    return turn * programs + program + back * (programs - 1 - 2 * program)


@gluon.jit
def _locate(
    turn,
    work,
    KV_HEADS: gl.constexpr,
    HEADS_TOGETHER: gl.constexpr,
    QUERIES: gl.constexpr,
    BLOCK_N: gl.constexpr,
):
    """What this program does in a turn: head, row's table and numbers, and the range of keys."""
    tiles, rows, tables, table_stride, num_tiles = work
    item = _item(turn)
    first_head = item // (num_tiles * HEADS_TOGETHER) * HEADS_TOGETHER
    abreast = gl.minimum(HEADS_TOGETHER, KV_HEADS - first_head)
    item -= first_head * num_tiles
    tile = item // abreast
    head = first_head + item % abreast
    row = gl.load(tiles + 2 * tile)
    first_query = gl.load(tiles + 2 * tile + 1)
    first_token = gl.load(rows + 3 * row)
    num_new = gl.load(rows + 3 * row + 1)
    context = gl.load(rows + 3 * row + 2)
    table = tables + row.to(gl.int64) * table_stride
    # A line sees positions up to its limit; lines that only fill the tile follow the last query.
    first_limit = context - num_new + first_query
    last_limit = gl.minimum(first_limit + QUERIES, context) - 1
    end = last_limit // BLOCK_N + 1
    diagonal = (first_limit + 1) // BLOCK_N
    return head, table, first_query, first_token, num_new, first_limit, last_limit, diagonal, end


@gluon.jit
def _produce(
    work,
    boxes,
    rings,
    KV_HEADS: gl.constexpr,
    HEADS_TOGETHER: gl.constexpr,
    QUERIES: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
    BLOCK_N: gl.constexpr,
    STAGES: gl.constexpr,
):
    """The producer: every tile of keys and values, in the order in which consumers want them."""
    key_boxes, value_boxes, box_page, box_head, box_column = boxes
    k_ring, k_full, k_empty, v_ring, v_full, v_empty = rings
    TILES_PER_PAGE: gl.constexpr = PAGE_SIZE // BLOCK_N
    count = 0
    for turn in range(_turns(work[4] * KV_HEADS)):
        head, table, _, _, _, _, _, _, end = _locate(
            turn, work, KV_HEADS, HEADS_TOGETHER, QUERIES, BLOCK_N
        )
        column = head * box_column
        page = gl.load(table + (end - 1) // TILES_PER_PAGE)
        for step in range(end):
            tile = end - 1 - step
            line = page * box_page + head * box_head + (tile % TILES_PER_PAGE) * BLOCK_N
            page = gl.load(table + gl.maximum(tile - 1, 0) // TILES_PER_PAGE)  # for the next step
            slot, phase = _slot(count, STAGES)
            mbarrier.wait(k_empty.index(slot), phase ^ 1)
            full = k_full.index(slot)
            mbarrier.expect(full, key_boxes.block_type.nbytes)
            tma.async_copy_global_to_shared(key_boxes, [line, column], full, k_ring.index(slot))
            mbarrier.wait(v_empty.index(slot), phase ^ 1)
            full = v_full.index(slot)
            mbarrier.expect(full, value_boxes.block_type.nbytes)
            tma.async_copy_global_to_shared(value_boxes, [line, column], full, v_ring.index(slot))
            count += 1


@gluon.jit
def _weigh(scores, peak, total, scale):
    """The online softmax of a tile: weights, peak and total brought up to date, and by what."""
    new_peak = gl.maximum(peak, gl.max(scores, 1) * scale)
    weights = gl.exp2(scores * scale - new_peak[:, None])
    shrink = gl.exp2(peak - new_peak)
    return weights, new_peak, total * shrink + gl.sum(weights, 1), shrink


@gluon.jit
def _advance(
    running,
    tile_q,
    rings,
    turn_bars,
    limits,
    positions,
    first_step,
    last_step,
    count,
    tile,
    scale,
    WHICH: gl.constexpr,
    MASKED: gl.constexpr,
    IN_TURNS: gl.constexpr,
    STAGES: gl.constexpr,
):
    """Scores of tiles first_step .. last_step - 1, each under way with the sum of the one before."""
    acc, weights, total, peak = running
    k_ring, k_full, k_empty, v_ring, v_full, v_empty = rings
    LINES: gl.constexpr = tile_q.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[1]
    row_layout: gl.constexpr = gl.SliceLayout(1, acc.type.layout)
    score_layout: gl.constexpr = positions.type.layout.parent
    for step in range(first_step, last_step):
        k_slot, k_phase = _slot(count + step, STAGES)
        v_slot, v_phase = _slot(count + step - 1, STAGES)
        mbarrier.wait(k_full.index(k_slot), k_phase)
        if IN_TURNS:
            mine, theirs = _turn_bars(turn_bars, WHICH)
            mbarrier.wait(mine, ((count + step) & 1) ^ (1 - WHICH))
        zeros = gl.full([LINES, BLOCK_N], 0.0, gl.float32, score_layout)
        scores = warpgroup_mma(
            tile_q, k_ring.index(k_slot).permute((1, 0)), zeros, use_acc=False, is_async=True
        )
        mbarrier.wait(v_full.index(v_slot), v_phase)
        acc = warpgroup_mma(weights, v_ring.index(v_slot), acc, is_async=True)
        if IN_TURNS:
            mbarrier.arrive(theirs)
        scores = warpgroup_mma_wait(1, deps=(scores,))
        mbarrier.arrive(k_empty.index(k_slot))
        if MASKED:
            seen = (positions + (tile - step) * BLOCK_N)[None, :] <= limits[:, None]
            scores = gl.where(seen, scores, float("-inf"))
        fresh, peak, total, shrink = _weigh(scores, peak, total, scale)
        acc, weights = warpgroup_mma_wait(0, deps=(acc, weights))
        mbarrier.arrive(v_empty.index(v_slot))
        acc = acc * gl.convert_layout(shrink, row_layout)[:, None]
        weights = gl.convert_layout(fresh.to(weights.dtype), weights.type.layout)
    return acc, weights, total, peak


@gluon.jit
def _turn_bars(turn_bars, WHICH: gl.constexpr):
    return turn_bars.index(WHICH), turn_bars.index(1 - WHICH)


@gluon.jit
def _consume(
    work,
    tensors,
    rings,
    q_tiles,
    turn_bars,
    scale,
    WHICH: gl.constexpr,
    KV_HEADS: gl.constexpr,
    HEADS_TOGETHER: gl.constexpr,
    GROUP: gl.constexpr,
    QUERIES: gl.constexpr,
    IN_TURNS: gl.constexpr,
):
    """A consumer: LINES lines of the query tile, from the first key tile to the output."""
    q, q_token_stride, q_head_stride, out, out_token_stride, out_head_stride = tensors
    k_ring, k_full, k_empty, v_ring, v_full, v_empty = rings
    tile_q = q_tiles.index(WHICH)
    WARPS: gl.constexpr = gl.num_warps()
    LINES: gl.constexpr = q_tiles.shape[1]
    DIM: gl.constexpr = q_tiles.shape[2]
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[1]
    # [LINES, BLOCK_N] and [LINES, DIM] as the matrix units leave them, and as memory likes them
    score_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, BLOCK_N, 16])
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, DIM, 16])
    weight_layout: gl.constexpr = gl.DotOperandLayout(0, acc_layout, 2)
    io_layout: gl.constexpr = gl.BlockedLayout([1, 8], [256 // DIM, DIM // 8], [WARPS, 1], [1, 0])

    lines = WHICH * LINES + gl.arange(0, LINES, gl.SliceLayout(1, score_layout))
    io_lines = WHICH * LINES + gl.arange(0, LINES, gl.SliceLayout(1, io_layout))
    io_columns = gl.arange(0, DIM, gl.SliceLayout(0, io_layout))
    positions = gl.arange(0, BLOCK_N, gl.SliceLayout(0, score_layout))
    count = 0
    for turn in range(_turns(work[4] * KV_HEADS)):
        head, _, first_query, first_token, num_new, first_limit, last_limit, diagonal, end = (
            _locate(turn, work, KV_HEADS, HEADS_TOGETHER, QUERIES, BLOCK_N)
        )
        query = first_query + io_lines // GROUP
        q_head = head * GROUP + io_lines % GROUP
        used = (query < num_new)[:, None]
        token = (first_token + query).to(gl.int64)
        at = (token * q_token_stride + q_head * q_head_stride)[:, None] + io_columns[None, :]
        tile_q.store(gl.load(q + at, mask=used, other=0.0))
        fence_async_shared()  # what threads wrote, the matrix units may read
        gl.thread_barrier()

        # The first tile: scores, and nothing yet to sum.
        limits = gl.minimum(first_limit + lines // GROUP, last_limit)
        slot, phase = _slot(count, STAGES)
        mbarrier.wait(k_full.index(slot), phase)
        zeros = gl.full([LINES, BLOCK_N], 0.0, gl.float32, score_layout)
        scores = warpgroup_mma(
            tile_q, k_ring.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True
        )
        scores = warpgroup_mma_wait(0, deps=(scores,))
        mbarrier.arrive(k_empty.index(slot))
        seen = (positions + (end - 1) * BLOCK_N)[None, :] <= limits[:, None]
        scores = gl.where(seen, scores, float("-inf"))
        # The first peak is finite: a line may see nothing of the last tile.
        peak = gl.full([LINES], -1.0e30, gl.float32, gl.SliceLayout(1, score_layout))
        total = gl.full([LINES], 0.0, gl.float32, gl.SliceLayout(1, score_layout))
        weights, peak, total, _ = _weigh(scores, peak, total, scale)
        weights = gl.convert_layout(weights.to(q.dtype.element_ty), weight_layout)
        acc = gl.full([LINES, DIM], 0.0, gl.float32, acc_layout)

        running = (acc, weights, total, peak)
        masked = gl.maximum(end - diagonal, 1)
        running = _advance(
            running, tile_q, rings, turn_bars, limits, positions, 1, masked, count, end - 1,
            scale, WHICH, True, IN_TURNS, STAGES,
        )  # fmt: skip
        acc, weights, total, peak = _advance(
            running, tile_q, rings, turn_bars, limits, positions, masked, end, count, end - 1,
            scale, WHICH, False, IN_TURNS, STAGES,
        )  # fmt: skip

        # The last tile: nothing left but its sum.
        count += end
        slot, phase = _slot(count - 1, STAGES)
        mbarrier.wait(v_full.index(slot), phase)
        acc = warpgroup_mma(weights, v_ring.index(slot), acc, is_async=True)
        acc, weights = warpgroup_mma_wait(0, deps=(acc, weights))
        mbarrier.arrive(v_empty.index(slot))
        total = gl.convert_layout(total, gl.SliceLayout(1, acc_layout))
        tile_q.store((acc / total[:, None]).to(q.dtype.element_ty))  # by way of the tile's place
        at = (token * out_token_stride + q_head * out_head_stride)[:, None] + io_columns[None, :]
        gl.store(out + at, tile_q.load(io_layout), mask=used)


_VARYING = ["box_page", "box_head", "box_column", "table_stride", "num_tiles"]


@gluon.jit(do_not_specialize=_VARYING)
def _hopper_kernel(
    q,
    out,
    key_boxes,
    value_boxes,
    tiles,
    rows,
    tables,
    scale,
    q_token_stride,
    q_head_stride,
    out_token_stride,
    out_head_stride,
    box_page,
    box_head,
    box_column,
    table_stride,
    num_tiles,
    KV_HEADS: gl.constexpr,
    GROUP: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
    LINES: gl.constexpr,
    STAGES: gl.constexpr,
    CONSUMERS: gl.constexpr,
    IN_TURNS: gl.constexpr,
    HEADS_TOGETHER: gl.constexpr,
):
    BLOCK_N: gl.constexpr = key_boxes.block_type.shape[0]
    DIM: gl.constexpr = key_boxes.block_type.shape[1]
    QUERIES: gl.constexpr = CONSUMERS * LINES // GROUP
    dtype: gl.constexpr = key_boxes.dtype
    q_layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([LINES, DIM], dtype)
    q_tiles = gl.allocate_shared_memory(dtype, [CONSUMERS, LINES, DIM], q_layout)
    k_ring = gl.allocate_shared_memory(dtype, [STAGES, BLOCK_N, DIM], key_boxes.layout)
    v_ring = gl.allocate_shared_memory(dtype, [STAGES, BLOCK_N, DIM], value_boxes.layout)
    bar_layout: gl.constexpr = mbarrier.MBarrierLayout()
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar_layout)
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar_layout)
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar_layout)
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar_layout)
    turn_bars = gl.allocate_shared_memory(gl.int64, [2, 1], bar_layout)
    for slot in gl.static_range(STAGES):
        mbarrier.init(k_full.index(slot), count=1)
        mbarrier.init(v_full.index(slot), count=1)
        mbarrier.init(k_empty.index(slot), count=CONSUMERS)
        mbarrier.init(v_empty.index(slot), count=CONSUMERS)
    for which in gl.static_range(2):
        mbarrier.init(turn_bars.index(which), count=1)
    fence_async_shared()

    work = (tiles, rows, tables, table_stride, num_tiles)
    tensors = (q, q_token_stride, q_head_stride, out, out_token_stride, out_head_stride)
    rings = (k_ring, k_full, k_empty, v_ring, v_full, v_empty)
    boxes = (key_boxes, value_boxes, box_page, box_head, box_column)
    # (Constants stay constants only in a call: no name for these tuples.)
    if CONSUMERS == 2:
        gl.warp_specialize(
            [
                (
                    _consume,
                    (work, tensors, rings, q_tiles, turn_bars, scale, 0, KV_HEADS, HEADS_TOGETHER,
                     GROUP, QUERIES, IN_TURNS),
                ),
                (
                    _consume,
                    (work, tensors, rings, q_tiles, turn_bars, scale, 1, KV_HEADS, HEADS_TOGETHER,
                     GROUP, QUERIES, IN_TURNS),
                ),
                (
                    _produce,
                    (work, boxes, rings, KV_HEADS, HEADS_TOGETHER, QUERIES, PAGE_SIZE, BLOCK_N,
                     STAGES),
                ),
            ],
            [4, 1],
            [240, 24],
        )  # fmt: skip
    else:
        gl.warp_specialize(
            [
                (
                    _consume,
                    (work, tensors, rings, q_tiles, turn_bars, scale, 0, KV_HEADS, HEADS_TOGETHER,
                     GROUP, QUERIES, IN_TURNS),
                ),
                (
                    _produce,
                    (work, boxes, rings, KV_HEADS, HEADS_TOGETHER, QUERIES, PAGE_SIZE, BLOCK_N,
                     STAGES),
                ),
            ],
            [1],
            [24],
        )  # fmt: skip
