"""RMSNorm, alone or with the residual addition before it.

Problem: written in torch, x / rms(x) · g is a chain of passes over [T, dim] (widen, square, mean,
scale, narrow), and the residual sum x + branch that stands before most norms is one more.
Idea: a row fits in the registers of one program. It is read once, summed in float32, and written
once; the residual sum is written on the way. The sum is rounded to the model's dtype *before* it is
normed: the next layer adds to the rounded value, so the norm must see the same one.
Layout: one program a row, 8 to 16 numbers a thread; rows shorter than 512 share a program. Rows may
be strided views of two leading dimensions (the heads of q inside a qkv tensor).
Trade-off: one program a row leaves most of the GPU idle for a single token, where `gemv` norms as
it multiplies; here the simple form is the one that reads each byte once.
Paper: Zhang & Sennrich 2019, Root Mean Square Layer Normalization, arXiv:1910.07467.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["num_rows"])
def _norm_kernel(
    x_ptr,
    branch_ptr,
    weight_ptr,
    total_ptr,
    out_ptr,
    outer_stride,
    inner_stride,
    branch_stride,
    inner,
    num_rows,
    eps,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    weight = tl.load(weight_ptr + col, mask=col < DIM, other=0.0)
    inside = (row < num_rows) & (col < DIM)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    at = row // inner * outer_stride + row % inner * inner_stride + col
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    if branch_ptr is not None:
        branch = tl.load(branch_ptr + row * branch_stride + col, mask=inside, other=0.0)
        x = (x.to(tl.float32) + branch.to(tl.float32)).to(x.dtype)
        tl.store(total_ptr + row * DIM + col, x, mask=inside)
    x = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 1) / DIM + eps)
    y = x * scale[:, None] * weight
    tl.store(out_ptr + row * DIM + col, y.to(out_ptr.dtype.element_ty), mask=inside)


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype | None = None, *, pdl: bool = False
) -> Tensor:
    """x / rms(x) · weight over the last dimension.

    x [..., dim], any float dtype, the last dimension contiguous, otherwise strided as it likes;
    weight float32 [dim]. Returns a contiguous tensor of x's shape in `dtype` (None: x's). `pdl`:
    start while the kernel before is still running (`gemv.py` says how). Raises ValueError for other
    shapes.
    """
    _check(x, weight)
    out = torch.empty(x.shape, dtype=dtype or x.dtype, device=x.device)
    _launch(x, None, weight, None, out, eps, pdl)
    return out


def add_rms_norm(
    x: Tensor, branch: Tensor, weight: Tensor, eps: float, *, pdl: bool = False
) -> tuple[Tensor, Tensor]:
    """x + branch in x's dtype, and the norm of that in branch's.

    x and branch [T, dim], rows contiguous; weight float32 [dim]. Both results are new and
    contiguous. Raises ValueError for other shapes.
    """
    _check(x, weight)
    if x.ndim != 2 or branch.shape != x.shape or branch.stride(1) != 1:
        raise ValueError(f"x and branch must be [T, dim] alike, not {x.shape} and {branch.shape}")
    total = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    out = torch.empty_like(total, dtype=branch.dtype)
    _launch(x, branch, weight, total, out, eps, pdl)
    return total, out


def _check(x: Tensor, weight: Tensor) -> None:
    dim = x.shape[-1]
    if weight.shape != (dim,) or weight.dtype != torch.float32 or weight.stride(0) != 1:
        raise ValueError(f"weight must be float32 [{dim}], not {weight.dtype} {weight.shape}")
    if x.stride(-1) != 1:
        raise ValueError("the last dimension of x must be contiguous")


def _launch(
    x: Tensor,
    branch: Tensor | None,
    weight: Tensor,
    total: Tensor | None,
    out: Tensor,
    eps: float,
    pdl: bool,
) -> None:
    """One program per `rows` rows, which count through the leading dimensions."""
    if x.ndim > 3:
        x = x.flatten(0, -3)
    dim = x.shape[-1]
    num_rows = x.numel() // dim
    if not num_rows:
        return
    inner, inner_stride = (x.shape[1], x.stride(1)) if x.ndim == 3 else (1, 0)
    block = max(16, triton.next_power_of_2(dim))
    rows = max(1, 512 // block)
    warps = min(16, max(1, rows * block // 256))
    extra = {"launch_pdl": True} if pdl else {}
    _norm_kernel[(-(-num_rows // rows),)](
        x, branch, weight, total, out,
        x.stride(0) if x.ndim > 1 else 0, inner_stride,
        branch.stride(0) if branch is not None else 0,
        inner, num_rows, eps, dim, rows, block, pdl, num_warps=warps, **extra,
    )  # fmt: skip
