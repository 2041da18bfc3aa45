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

Trade-offs. Most shared memory and all registers go to one program per multiprocessor: no second
program covers for it. Half of a diagonal tile is computed for nothing by the warpgroup of
the earlier queries. Only 16-bit types, head sizes 64 and 128, groups that divide 128, no window and
no softcap: `fits` says so, and flash.py does the rest. Values behind a context, up to the end of
its last page, must be finite: they are weighted with 0, and 0 · NaN is NaN. (A pool of pages that
begins as zeros, and into which only finite values are written, keeps that promise.)

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

from pellucid.kernels.kv import KVLayer
from pellucid.kernels.triton.flash import LOG2_E, _box_steps, _boxes, check

BLOCK_M = 128
"""Lines of a query tile, for `make_tiles`; a line is one query of one head."""


class HopperTiling(NamedTuple):
    """How the work of one launch is cut."""

    block_n: int = 128
    """Positions of a key tile; not above the page size."""
    stages: int = 2
    """Tiles of keys, and of values, that a ring holds; at least 2."""
    in_turns: bool = False
    """Warpgroups issue their products in turns, so that one's exponentials meet the other's."""
    persistent: bool = True
    """One program per multiprocessor (else one per tile and head)."""
    heads_together: int = 64
    """KV heads that run side by side."""


_GL_TYPES = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16}


@cache
def choose_tiling(page_size: int) -> HopperTiling:
    """The tiling for a page size, at least 64."""
    return HopperTiling(128, 2) if page_size >= 128 else HopperTiling(64, 4)


def fits(q: Tensor, kv: KVLayer, *, window: int = 0, softcap: float = 0.0) -> bool:
    """Whether `flash_attention_hopper` can do this; else `flash_attention` must."""
    return (
        q.device.type == "cuda"
        and torch.cuda.get_device_capability(q.device)[0] == 9
        and q.dtype in _GL_TYPES
        and kv.head_dim in (64, 128)
        and kv.block_size >= 64
        and BLOCK_M % (q.shape[1] // kv.num_kv_heads) == 0
        and not window
        and not softcap
    )


@gluon.constexpr_function
def _mma_layout(columns):
    """How the matrix units leave a product of so many columns in a warpgroup's registers."""
    return gl.NVMMADistributedLayout([3, 0], [4, 1], [16, columns, 16])


@gluon.jit
def _slot(count, STAGES: gl.constexpr):
    """Where in a ring the tile number `count` lies, and in which of the two phases."""
    return count % STAGES, (count // STAGES) & 1


@gluon.jit
def _turns(total):
    """How many of the `total` work items this program takes."""
    programs = gl.num_programs(0)
    rounds = total // programs
    return rounds + (_item(rounds) < total).to(gl.int32)


@gluon.jit
def _item(turn):
    """This program's work item number `turn`. Items are dealt to programs 0, 1, …, n-1 and then
    back from n-1 to 0, so that the programs with the heaviest items of one round get the lightest
    of the next."""
    programs = gl.num_programs(0)
    program = gl.program_id(0)
    back = turn % 2
    return turn * programs + program + back * (programs - 1 - 2 * program)


@gluon.jit
def _locate(turn, work, GROUP: gl.constexpr, BLOCK_N: gl.constexpr):
    """This program's work item number `turn`: its head, its row's table and numbers, and the range
    of its keys."""
    QUERIES: gl.constexpr = 128 // GROUP
    tiles, rows, tables, table_stride, num_tiles, kv_heads, heads_together = work
    item = _item(turn)
    first_head = item // (num_tiles * heads_together) * heads_together
    abreast = gl.minimum(heads_together, kv_heads - first_head)
    item -= first_head * num_tiles
    tile = item // abreast
    head = first_head + item % abreast
    row = gl.load(tiles + 2 + 2 * tile)
    first_query = gl.load(tiles + 2 + 2 * tile + 1)
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
def _produce(work, boxes, rings, GROUP: gl.constexpr, PAGE_SIZE: gl.constexpr):
    """The producer: fetch every tile of keys and values, in the order in which consumers read."""
    key_boxes, value_boxes, box_page, box_head, box_column = boxes
    k_ring, k_full, k_empty, v_ring, v_full, v_empty = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[1]
    TILES_PER_PAGE: gl.constexpr = PAGE_SIZE // BLOCK_N
    count = 0
    for turn in range(_turns(work[4] * work[5])):
        head, table, _, _, _, _, _, _, end = _locate(turn, work, GROUP, BLOCK_N)
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
def _await_keys(rings, count, pred=True):
    """Wait until the keys of tile number `count` have arrived."""
    slot, phase = _slot(count, rings[0].shape[0])
    mbarrier.wait(rings[1].index(slot), phase, pred=pred)


@gluon.jit
def _scores(tile_q, rings, count):
    """Ask for the scores of tile number `count`, whose keys are here."""
    k_ring = rings[0]
    LINES: gl.constexpr = tile_q.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[1]
    nothing = gl.full([LINES, BLOCK_N], 0.0, gl.float32, _mma_layout(BLOCK_N))
    keys = k_ring.index(count % k_ring.shape[0]).permute((1, 0))
    return warpgroup_mma(tile_q, keys, nothing, use_acc=False, is_async=True)


@gluon.jit
def _mask(scores, seen, tile):
    """Minus infinity where a line's limit lies before a position of the tile."""
    positions, limits = seen
    BLOCK_N: gl.constexpr = scores.shape[1]
    there = (positions + tile * BLOCK_N)[None, :] <= limits[:, None]
    return gl.where(there, scores, float("-inf"))


@gluon.jit
def _weigh(scores, peak, total, scale):
    """A tile in the online softmax: its weights, peak and total with it, and what shrinks a sum."""
    new_peak = gl.maximum(peak, gl.max(scores, 1) * scale)
    weights = gl.exp2(scores * scale - new_peak[:, None])
    shrink = gl.exp2(peak - new_peak)
    return weights, new_peak, total * shrink + gl.sum(weights, 1), shrink


@gluon.jit
def _sum(acc, weights, shrink, rings, count):
    """Ask for acc · shrink + weights · values of tile number `count`."""
    _, _, _, v_ring, v_full, _ = rings
    slot, phase = _slot(count, v_ring.shape[0])
    mbarrier.wait(v_full.index(slot), phase)
    layout: gl.constexpr = acc.type.layout
    acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, layout))[:, None]
    operand: gl.constexpr = gl.DotOperandLayout(0, layout, 2)
    weights = gl.convert_layout(weights.to(v_ring.dtype), operand)
    return warpgroup_mma(weights, v_ring.index(slot), acc, is_async=True)


@gluon.jit
def _walk(
    running,
    tile_q,
    rings,
    seen,
    tiles,
    count,
    scale,
    turns,
    WHICH: gl.constexpr,
    IN_TURNS: gl.constexpr,
):
    """All key tiles but the first: ask for a tile's scores while the matrix units still sum the
    tile before, then turn the scores into weights.

    tiles: (how many, the first that no line sees the whole of); count: of tiles before this walk;
    turns: (barriers, number of turns before the walk's step 0).
    """
    acc, weights, shrink, total, peak = running
    num_tiles, diagonal = tiles
    turn_bars, turns_taken = turns
    k_ring, _, k_empty, _, _, v_empty = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    for step in range(1, num_tiles):
        at = count + step
        if IN_TURNS:
            # The first goes first: its barrier counts as passed before the other ever arrived.
            mbarrier.wait(turn_bars.index(WHICH), ((turns_taken + step) & 1) ^ (1 - WHICH))
        scores = _scores(tile_q, rings, at)
        acc = _sum(acc, weights, shrink, rings, at - 1)
        if IN_TURNS:
            mbarrier.arrive(turn_bars.index(1 - WHICH))
        scores = warpgroup_mma_wait(1, deps=(scores,))
        mbarrier.arrive(k_empty.index(at % STAGES))
        tile = num_tiles - 1 - step
        if tile >= diagonal:
            scores = _mask(scores, seen, tile)
        weights, peak, total, shrink = _weigh(scores, peak, total, scale)
        # Where a loop may wait, the assembler's scheduler draws a line. Without this one it would
        # wait for the sum first, and the exponentials above would run beside nothing.
        _await_keys(rings, at + 1, step + 1 < num_tiles)
        acc = warpgroup_mma_wait(0, deps=(acc,))
        mbarrier.arrive(v_empty.index((at - 1) % STAGES))
    return acc, weights, shrink, total, peak


@gluon.jit
def _consume(
    work,
    tensors,
    rings,
    q_tiles,
    turn_bars,
    scale,
    WHICH: gl.constexpr,
    GROUP: gl.constexpr,
    IN_TURNS: gl.constexpr,
):
    """A consumer: LINES lines of the query tile, from the first key tile to the output."""
    q, q_token_stride, q_head_stride, out, out_token_stride, out_head_stride = tensors
    k_ring, k_empty, v_empty = rings[0], rings[2], rings[5]
    tile_q = q_tiles.index(WHICH)
    LINES: gl.constexpr = q_tiles.shape[1]
    DIM: gl.constexpr = q_tiles.shape[2]
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[1]
    # [LINES, BLOCK_N] and [LINES, DIM] as the matrix units leave them, and as memory likes them
    score_layout: gl.constexpr = _mma_layout(BLOCK_N)
    acc_layout: gl.constexpr = _mma_layout(DIM)
    io_layout: gl.constexpr = gl.BlockedLayout([1, 8], [256 // DIM, DIM // 8], [4, 1], [1, 0])

    lines = WHICH * LINES + gl.arange(0, LINES, gl.SliceLayout(1, score_layout))
    io_lines = WHICH * LINES + gl.arange(0, LINES, gl.SliceLayout(1, io_layout))
    io_columns = gl.arange(0, DIM, gl.SliceLayout(0, io_layout))
    positions = gl.arange(0, BLOCK_N, gl.SliceLayout(0, score_layout))
    count = 0
    for turn in range(_turns(work[4] * work[5])):
        head, _, first_query, first_token, num_new, first_limit, last_limit, diagonal, end = (
            _locate(turn, work, GROUP, BLOCK_N)
        )
        query = first_query + io_lines // GROUP
        q_head = head * GROUP + io_lines % GROUP
        used = (query < num_new)[:, None]
        token = (first_token + query).to(gl.int64)
        at = (token * q_token_stride + q_head * q_head_stride)[:, None] + io_columns[None, :]
        tile_q.store(gl.load(q + at, mask=used, other=0.0))
        fence_async_shared()  # what threads wrote, the matrix units may read
        gl.thread_barrier()

        # The first tile is the last of the keys. The first peak is finite: of that tile a line may
        # see nothing.
        limits = gl.minimum(first_limit + lines // GROUP, last_limit)
        _await_keys(rings, count)
        scores = warpgroup_mma_wait(0, deps=(_scores(tile_q, rings, count),))
        mbarrier.arrive(k_empty.index(count % STAGES))
        peak = gl.full([LINES], -1.0e30, gl.float32, gl.SliceLayout(1, score_layout))
        total = gl.full([LINES], 0.0, gl.float32, gl.SliceLayout(1, score_layout))
        seen = (positions, limits)
        scores = _mask(scores, seen, end - 1)
        weights, peak, total, shrink = _weigh(scores, peak, total, scale)
        acc = gl.full([LINES, DIM], 0.0, gl.float32, acc_layout)
        _await_keys(rings, count + 1, end > 1)
        running = (acc, weights, shrink, total, peak)
        turns = (turn_bars, count - turn - 1)  # a tile of queries takes a turn less than key tiles
        acc, weights, shrink, total, peak = _walk(
            running, tile_q, rings, seen, (end, diagonal), count, scale, turns, WHICH, IN_TURNS
        )

        count += end
        acc = warpgroup_mma_wait(0, deps=(_sum(acc, weights, shrink, rings, count - 1),))
        mbarrier.arrive(v_empty.index((count - 1) % STAGES))
        total = gl.convert_layout(total, gl.SliceLayout(1, acc_layout))
        tile_q.store((acc / total[:, None]).to(q.dtype.element_ty))  # by way of the tile's place
        at = (token * out_token_stride + q_head * out_head_stride)[:, None] + io_columns[None, :]
        gl.store(out + at, tile_q.load(io_layout), mask=used)


_VARYING = ["box_page", "box_head", "box_column", "table_stride", "kv_heads", "heads_together"]


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
    kv_heads,
    heads_together,
    GROUP: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
    IN_TURNS: gl.constexpr,
):
    BLOCK_N: gl.constexpr = key_boxes.block_type.shape[0]
    DIM: gl.constexpr = key_boxes.block_type.shape[1]
    LINES: gl.constexpr = 64
    dtype: gl.constexpr = key_boxes.dtype
    q_layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([LINES, DIM], dtype)
    q_tiles = gl.allocate_shared_memory(dtype, [2, LINES, DIM], q_layout)
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
        mbarrier.init(k_empty.index(slot), count=2)
        mbarrier.init(v_empty.index(slot), count=2)
    for which in gl.static_range(2):
        mbarrier.init(turn_bars.index(which), count=1)
    fence_async_shared()

    work = (tiles, rows, tables, table_stride, gl.load(tiles), kv_heads, heads_together)
    tensors = (q, q_token_stride, q_head_stride, out, out_token_stride, out_head_stride)
    rings = (k_ring, k_full, k_empty, v_ring, v_full, v_empty)
    boxes = (key_boxes, value_boxes, box_page, box_head, box_column)
    # (Constants stay constants only in the call itself: no name for these tuples.)
    gl.warp_specialize(
        [
            (
                _consume,
                (work, tensors, rings, q_tiles, turn_bars, scale, 0, GROUP, IN_TURNS),
            ),
            (
                _consume,
                (work, tensors, rings, q_tiles, turn_bars, scale, 1, GROUP, IN_TURNS),
            ),
            (
                _produce,
                (work, boxes, rings, GROUP, PAGE_SIZE),
            ),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _box_layout(block_n: int, dim: int, dtype: torch.dtype) -> gl.NVMMASharedLayout:
    """How the copy engine is to lay a tile down, so that the matrix units can take it up."""
    return gl.NVMMASharedLayout.get_default_for([block_n, dim], _GL_TYPES[dtype])


def _hopper_boxes(pool: Tensor, block_n: int) -> TensorDescriptor:
    boxes = _boxes(pool, block_n)
    layout = _box_layout(block_n, pool.shape[3], pool.dtype)
    return TensorDescriptor(pool, boxes.shape, boxes.strides, boxes.block_shape, layout)


def flash_attention_hopper(
    q: Tensor,
    kv: KVLayer,
    out: Tensor,
    tiles: Tensor,
    rows: Tensor,
    tables: Tensor,
    *,
    scale: float,
    tiling: HopperTiling | None = None,
) -> Tensor:
    """Causal attention of rows with many new tokens, over pages; fills and returns `out`.

    q, out: [tokens, heads, dim], the last dimension dense; tokens of no tile are left alone in out.
    kv: keys and values of q's dtype, of equal strides, the last 1; they hold the new tokens too.
        Values behind a context, in its last page, must be finite.
    tiles: int32 [1 + num_tiles, 2] from `make_tiles`, made with `BLOCK_M`; what stands behind the
        list is not looked at.
    rows: int32 [num_rows, 3]: first token in q, new tokens, context (the new tokens included).
    tables: int32 [num_rows, max_pages].
    scale: above 0.

    Query i of n sees positions 0 .. context - n + i. Raises ValueError for shapes, strides and
    types that do not fit; `fits` tells whether a model's do.
    """
    keys, values = kv.keys, kv.values
    _, page_size, kv_heads, dim = keys.shape
    group = q.shape[1] // kv_heads
    check(q, kv, out)
    if not (tiles.is_contiguous() and rows.is_contiguous() and tables.stride(1) == 1):
        raise ValueError("tiles, rows and the rows of tables must be dense")
    if tiling is None:
        tiling = choose_tiling(page_size)
    if dim not in (64, 128) or q.dtype not in _GL_TYPES or BLOCK_M % group:
        raise ValueError(f"no kernel for {q.dtype}, head size {dim} and {group} heads a KV head")
    if tiling.block_n > page_size or tiling.stages < 2:
        raise ValueError(f"{tiling} does not fit pages of {page_size}")
    programs = (len(tiles) - 1) * kv_heads
    if tiling.persistent:
        programs = min(programs, _multiprocessors(q.device))
    _hopper_kernel[(programs,)](
        q, out, _hopper_boxes(keys, tiling.block_n), _hopper_boxes(values, tiling.block_n),
        tiles, rows, tables, scale * LOG2_E,
        q.stride(0), q.stride(1), out.stride(0), out.stride(1),
        *_box_steps(keys), tables.stride(0), kv_heads, tiling.heads_together,
        GROUP=group, PAGE_SIZE=page_size, STAGES=tiling.stages, IN_TURNS=tiling.in_turns,
        num_warps=4, maxnreg=168,
    )  # fmt: skip
    return out
