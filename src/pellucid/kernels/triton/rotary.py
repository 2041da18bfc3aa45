"""From the qkv linear to attention in one launch: QK-norm, rotation, and the KV cache's new rows.

Problem: between the two stand up to eight small passes over the same numbers: norm q, norm k, turn
q, turn k, gather pages, write k, write v. Each reads and writes memory and costs a launch.
Idea: a head of one token is 64 to 256 numbers, a matter of a few threads. A program takes some
heads of one token, whatever their kind, norms and turns them in float32, and writes each where its
kind belongs: q to the result, k and v into their page. Nothing is rounded in between.
Layout: rotation turns dimension i with i + half (halves, not neighbours), so a head is read as two
tiles [heads, half], plus the rest that does not turn where 2·half < dim. The slot of a token names
its place in the pool: page slot // page_size, row slot % page_size. Pools exceed 2³¹ elements, so
places are computed in int64.
Trade-off: v is carried through the same arithmetic and the result thrown away; it is memory that
counts. Few tokens want many small programs, many tokens fewer and larger ones.
Papers: Su et al. 2021, RoFormer, arXiv:2104.09864; Henry et al. 2020, Query-Key Normalization,
arXiv:2010.04245; Kwon et al. 2023, PagedAttention, arXiv:2309.06180.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.kv import KVLayer

FEW_TOKENS = 64


@triton.jit
def _store(
    part,
    head,
    cols,
    real,
    q_row,
    k_row,
    v_row,
    k_head_stride,
    v_head_stride,
    k_dim_stride,
    v_dim_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    DIM: tl.constexpr,
):
    """Write columns `cols` of some heads of one token, each where its kind belongs."""
    is_q = real & (head < HEADS)
    tl.store(q_row + head * DIM + cols, part.to(q_row.dtype.element_ty), mask=is_q)
    k_head = head - HEADS
    is_k = real & (k_head >= 0) & (k_head < KV_HEADS)
    at = k_head * k_head_stride + cols * k_dim_stride
    tl.store(k_row + at, part.to(k_row.dtype.element_ty), mask=is_k)
    v_head = k_head - KV_HEADS
    is_v = real & (v_head >= 0) & (v_head < KV_HEADS)
    at = v_head * v_head_stride + cols * v_dim_stride
    tl.store(v_row + at, part.to(v_row.dtype.element_ty), mask=is_v)


@triton.jit
def _norm_weights(q_norm_ptr, k_norm_ptr, head, cols, inside, HEADS: tl.constexpr):
    """The norm weight that columns `cols` of each head take. [heads, cols]."""
    is_q = head < HEADS
    q_norm = tl.load(q_norm_ptr + cols, mask=inside & is_q, other=0.0)
    k_norm = tl.load(k_norm_ptr + cols, mask=inside & (head >= HEADS), other=0.0)
    return tl.where(is_q, q_norm, k_norm)


@triton.jit
def _rotary_kernel(
    qkv_ptr,
    q_norm_ptr,
    k_norm_ptr,
    cos_ptr,
    sin_ptr,
    keys_ptr,
    values_ptr,
    slots_ptr,
    q_ptr,
    qkv_token_stride,
    qkv_head_stride,
    cos_stride,
    sin_stride,
    k_page_stride,
    k_slot_stride,
    k_head_stride,
    k_dim_stride,
    v_page_stride,
    v_slot_stride,
    v_head_stride,
    v_dim_stride,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    DIM: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    PDL: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)[:, None]
    is_v = head >= HEADS + KV_HEADS
    some = head < HEADS + 2 * KV_HEADS
    # Columns are repeated for each head, so that all operands fall to the threads alike: a few
    # reads more from the first cache instead of an exchange through shared memory.
    i = tl.arange(0, BLOCK_HALF)[None, :] + head * 0
    turns = i < HALF
    real = some & turns
    j = 2 * HALF + tl.arange(0, BLOCK_REST)[None, :] + head * 0
    real_rest = some & (j < DIM)
    if q_norm_ptr is not None:
        a_norm = _norm_weights(q_norm_ptr, k_norm_ptr, head, i, turns, HEADS)
        b_norm = _norm_weights(q_norm_ptr, k_norm_ptr, head, HALF + i, turns, HEADS)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()

    row = qkv_ptr + token * qkv_token_stride + head * qkv_head_stride
    a = tl.load(row + i, mask=real, other=0.0).to(tl.float32)
    b = tl.load(row + HALF + i, mask=real, other=0.0).to(tl.float32)
    rest = tl.zeros((BLOCK_HEADS, BLOCK_REST), tl.float32)
    if 2 * HALF < DIM:
        rest = tl.load(row + j, mask=real_rest, other=0.0).to(tl.float32)
    cos = tl.load(cos_ptr + token * cos_stride + i, mask=turns, other=0.0)
    sin = tl.load(sin_ptr + token * sin_stride + i, mask=turns, other=0.0)
    slot = tl.load(slots_ptr + token)

    x, y, z = a, b, rest
    if q_norm_ptr is not None:
        squares = tl.sum(a * a + b * b, 1) + tl.sum(rest * rest, 1)
        scale = tl.rsqrt(squares / DIM + eps)[:, None]
        x, y = x * scale * a_norm, y * scale * b_norm
        if 2 * HALF < DIM:
            z = z * scale * _norm_weights(q_norm_ptr, k_norm_ptr, head, j, j < DIM, HEADS)
    turned_x, turned_y = x * cos - y * sin, y * cos + x * sin
    a, b, rest = tl.where(is_v, a, turned_x), tl.where(is_v, b, turned_y), tl.where(is_v, rest, z)

    page, offset = slot // PAGE_SIZE, slot % PAGE_SIZE
    q_row = q_ptr + token * (HEADS * DIM)
    k_row = keys_ptr + page * k_page_stride + offset * k_slot_stride
    v_row = values_ptr + page * v_page_stride + offset * v_slot_stride
    _store(
        a, head, i, real, q_row, k_row, v_row,
        k_head_stride, v_head_stride, k_dim_stride, v_dim_stride, HEADS, KV_HEADS, DIM,
    )  # fmt: skip
    _store(
        b, head, HALF + i, real, q_row, k_row, v_row,
        k_head_stride, v_head_stride, k_dim_stride, v_dim_stride, HEADS, KV_HEADS, DIM,
    )  # fmt: skip
    if 2 * HALF < DIM:
        _store(
            rest, head, j, real_rest, q_row, k_row, v_row,
            k_head_stride, v_head_stride, k_dim_stride, v_dim_stride, HEADS, KV_HEADS, DIM,
        )  # fmt: skip


def rotate_and_write(
    qkv: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    rotation: tuple[Tensor, Tensor],
    kv: KVLayer,
    slots: Tensor,
    *,
    pdl: bool = False,
) -> Tensor:
    """Norm and turn q and k, store k and v; returns q [T, heads, dim].

    qkv [T, heads + 2·kv_heads, dim], dim contiguous; norms: weights of q and k, float32 [dim];
    rotation: cos and sin, float32 [T, half], 2·half ≤ dim; kv: of any strides and dtype; slots
    int64 [T]. `pdl`: start while the kernel before is
    still running (`gemv.py` says how). Raises ValueError for other shapes.
    """
    cos, sin = rotation
    tokens, num_heads, dim = qkv.shape
    keys, values = kv.keys, kv.values
    page_size, kv_heads = kv.block_size, kv.num_kv_heads
    heads, half = num_heads - 2 * kv_heads, cos.shape[1]
    if values.shape != keys.shape or keys.shape[3] != dim or heads < 1:
        raise ValueError(f"keys {keys.shape}, values {values.shape} do not go with qkv {qkv.shape}")
    if cos.shape != (tokens, half) or sin.shape != cos.shape or 2 * half > dim:
        raise ValueError(f"cos {cos.shape} and sin {sin.shape} do not go with qkv {qkv.shape}")
    if qkv.stride(2) != 1 or cos.stride(1) != 1 or sin.stride(1) != 1:
        raise ValueError("the last dimension of qkv, cos and sin must be contiguous")
    if slots.shape != (tokens,) or slots.dtype != torch.int64 or slots.stride(0) != 1:
        raise ValueError(f"slots must be int64 [{tokens}], not {slots.dtype} {slots.shape}")
    q = torch.empty((tokens, heads, dim), dtype=qkv.dtype, device=qkv.device)
    if not tokens:
        return q
    q_norm, k_norm = norms if norms is not None else (None, None)
    block_half = max(16, triton.next_power_of_2(half))
    block_rest = max(16, triton.next_power_of_2(dim - 2 * half)) if 2 * half < dim else 1
    block_heads = 4 if tokens <= FEW_TOKENS else 16
    warps = min(8, max(1, block_heads * block_half // 256))
    extra = {"launch_pdl": True} if pdl else {}
    _rotary_kernel[(tokens, -(-num_heads // block_heads))](
        qkv, q_norm, k_norm, cos, sin, keys, values, slots, q,
        qkv.stride(0), qkv.stride(1), cos.stride(0), sin.stride(0),
        *keys.stride(), *values.stride(), eps,
        heads, kv_heads, page_size, dim, half, block_half, block_rest, block_heads, pdl,
        num_warps=warps, **extra,
    )  # fmt: skip
    return q
