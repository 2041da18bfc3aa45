"""Matrix times a few vectors: what decoding is made of.

Problem: a decode step multiplies every weight matrix by T = 1 to 8 vectors. Each weight is used T
times, so the time is the time to read the matrix, and everything else must hide behind that:
activations, arithmetic, the norm before, the residual or gate after, even the launch.

Idea: a program owns a few rows and walks along K. It holds the next tile of weights in registers
while it multiplies the one before, so that memory is never idle. What stands around the matrix
comes along:
  norm      rms_norm(x)·g is x·g·r with one number r per token, so the dot products run over x·g,
            sum(x²) is gathered in the same loop, and r multiplies the result;
  gated     a program owns rows of gate and the matching rows of up, and writes act(gate)·up;
  bias and residual are added to the float32 sums, before the only rounding.

Layout: weight [N, K] row-major. Each thread loads 16 bytes of a row at a time; the warps of a
program lie side by side along K, so that x, one row, falls to the threads exactly as the weights
do and no operand changes hands. Products of one 16-byte piece are summed inside the thread (the
reshape to [..., pieces, VEC]), pieces along K are added to one accumulator, and lanes and warps
meet once, after the loop. No atomics: the order of every sum is fixed.

Two modes. "fma" multiplies on the ordinary cores: a 16-bit weight costs about 1.5 instructions to
widen and T to use; at 4.3 TB/s that is a tenth of an H200's issue slots for T = 1, but three
quarters for T = 8. "dot" gives [rows, K] · [K, 8] to the tensor cores, weights arriving through
shared memory by asynchronous copies; it needs at least 16 rows a program, and with a norm it
rounds x·g to the weight's dtype.

Programmatic dependent launch (`pdl`): a kernel may start when the one before has *started* all its
programs, rather than when it has ended. What does not depend on it, weights above all, is
requested at once; `gdc_wait` then holds the program until the kernel before has ended and its
writes are seen. Every kernel launched so must wait before it ends, else a third could overtake; and
each lets the next one start only after its own wait, so that no more than two share the chip and
whatever is older than the kernel before is complete.

Trade-off: from three vectors on, and over large matrices, the matrix-matrix kernels of cuBLAS win;
`pays` draws the line.
Papers: Williams et al. 2009, Roofline, doi:10.1145/1498765.1498785 (why bytes are what counts);
Zhang & Sennrich 2019, RMSNorm, arXiv:1910.07467.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.triton.gated import ACTIVATIONS, activate

MAX_TOKENS = 8


class GemvTiling(NamedTuple):
    """How one product is cut up."""

    mode: str
    """fma or dot"""
    rows: int
    """Weight rows of a program, a power of two; with a gate, half are gate and half are up."""
    block_k: int
    """Columns at a time, a power of two."""
    warps: int
    stages: int = 1
    """Tiles under way in dot mode."""
    evict_first: bool = True
    """Weights do not push activations and the KV cache out of the caches."""


@triton.jit
def _weight_rows(num_rows, ROWS: tl.constexpr, ACTIVATION: tl.constexpr):
    """Which rows of the weight a program reads: its own, or gate and up in turn. int64 [ROWS]."""
    at = tl.arange(0, ROWS)
    first = tl.program_id(0).to(tl.int64) * ROWS
    if ACTIVATION == "":
        return tl.minimum(first + at, num_rows - 1)
    return tl.minimum(first // 2 + at // 2, num_rows - 1) + at % 2 * num_rows


@triton.jit
def _out_offsets(num_rows, num_tokens, ROWS: tl.constexpr, T: tl.constexpr):
    """Where a program's [ROWS, T] results stand in [num_tokens, num_rows], and which exist."""
    n = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    t = tl.arange(0, T)[None, :]
    return t * num_rows + n, (n < num_rows) & (t < num_tokens)


@triton.jit
def _gate(sums, ROWS: tl.constexpr, T: tl.constexpr, ACTIVATION: tl.constexpr):
    """Rows gate, up, gate, up … → act(gate) · up. [ROWS, T] → [ROWS / 2, T]."""
    pairs = tl.permute(tl.reshape(sums, (ROWS // 2, 2, T)), (0, 2, 1))
    gate, up = tl.split(pairs)
    return activate(gate, ACTIVATION) * up


@triton.jit
def _stack(parts, A: tl.constexpr, B: tl.constexpr, T: tl.constexpr):
    """T tensors [A, B] → [A, B, T], without leaving the registers."""
    if T == 1:
        whole = parts[0]
    elif T == 2:
        whole = tl.join(parts[0], parts[1])
    elif T == 4:
        whole = tl.join(tl.join(parts[0], parts[2]), tl.join(parts[1], parts[3]))
    else:
        even = tl.join(tl.join(parts[0], parts[4]), tl.join(parts[2], parts[6]))
        odd = tl.join(tl.join(parts[1], parts[5]), tl.join(parts[3], parts[7]))
        whole = tl.join(even, odd)
    return tl.reshape(whole, (A, B, T))


@triton.jit
def _columns(ptr, cols, K: tl.constexpr, TAIL: tl.constexpr):
    """Elements `cols` of a row of K; zero beyond it."""
    if TAIL:
        return tl.load(ptr + cols, mask=cols < K, other=0.0).to(tl.float32)
    return tl.load(ptr + cols).to(tl.float32)


@triton.jit
def _tile(rows_ptr, cols, K: tl.constexpr, TAIL: tl.constexpr, EVICT: tl.constexpr):
    """Weights [ROWS, BLOCK_K] of the given columns."""
    if TAIL:
        return tl.load(rows_ptr + cols, mask=cols < K, other=0.0, eviction_policy=EVICT)
    return tl.load(rows_ptr + cols, eviction_policy=EVICT)


@triton.jit
def _multiply(
    sums,
    squares,
    tile,
    x_ptr,
    x_stride,
    norm_ptr,
    cols,
    num_tokens,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    PIECES: tl.constexpr,
    VEC: tl.constexpr,
    T: tl.constexpr,
    TAIL: tl.constexpr,
):
    """Add a tile's products to the T sums [ROWS, PIECES], and x² to the T squares [1, PIECES]."""
    weights = tile.to(tl.float32)
    if norm_ptr is not None:
        scale = _columns(norm_ptr, cols, K, TAIL)
    new_sums = sums[:0]
    new_squares = squares[:0]
    for t in tl.static_range(T):
        # Tokens past the last repeat it; their results are not written.
        token = x_ptr + tl.minimum(t, num_tokens - 1).to(tl.int64) * x_stride
        x = _columns(token, cols, K, TAIL)
        if norm_ptr is not None:
            new_squares += (squares[t] + tl.sum(tl.reshape(x * x, (1, PIECES, VEC)), 2),)
            x = x * scale
        else:
            new_squares += (squares[t],)
        new_sums += (sums[t] + tl.sum(tl.reshape(weights * x, (ROWS, PIECES, VEC)), 2),)
    return new_sums, new_squares


@triton.jit(do_not_specialize=["num_tokens"])
def _fma_kernel(
    x_ptr,
    weight_ptr,
    norm_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    rounded_ptr,
    x_stride,
    residual_stride,
    num_rows,
    num_tokens,
    eps,
    K: tl.constexpr,
    T: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    VEC: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EVICT: tl.constexpr,
    PDL: tl.constexpr,
):
    TAIL: tl.constexpr = K % BLOCK_K != 0
    PIECES: tl.constexpr = BLOCK_K // VEC
    OUT_ROWS: tl.constexpr = ROWS if ACTIVATION == "" else ROWS // 2
    rows = _weight_rows(num_rows, ROWS, ACTIVATION)
    rows_ptr = weight_ptr + rows[:, None] * K
    cols = tl.arange(0, BLOCK_K)[None, :]
    tile = _tile(rows_ptr, cols, K, TAIL, EVICT)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + rows).to(tl.float32)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    at, inside = _out_offsets(num_rows, num_tokens, OUT_ROWS, T)
    if residual_ptr is not None:
        gap = tl.arange(0, T)[None, :] * (residual_stride - num_rows)
        residual = tl.load(residual_ptr + at + gap, mask=inside, other=0.0).to(tl.float32)
    sums = (tl.zeros((ROWS, PIECES), tl.float32),) * T
    squares = (tl.zeros((1, PIECES), tl.float32),) * T
    LAST: tl.constexpr = (K - 1) // BLOCK_K * BLOCK_K
    for start in range(0, LAST, BLOCK_K):
        following = _tile(rows_ptr, start + BLOCK_K + cols, K, TAIL, EVICT)
        sums, squares = _multiply(
            sums, squares, tile, x_ptr, x_stride, norm_ptr, start + cols, num_tokens,
            K, ROWS, PIECES, VEC, T, False,
        )  # fmt: skip
        tile = following
    sums, squares = _multiply(
        sums, squares, tile, x_ptr, x_stride, norm_ptr, LAST + cols, num_tokens,
        K, ROWS, PIECES, VEC, T, TAIL,
    )  # fmt: skip
    result = tl.sum(_stack(sums, ROWS, PIECES, T), 1)  # [ROWS, T]
    if norm_ptr is not None:
        mean = tl.sum(_stack(squares, 1, PIECES, T), 1) / K
        result *= tl.rsqrt(mean + eps)
    if bias_ptr is not None:
        result += bias[:, None]
    if ACTIVATION != "":
        result = _gate(result, ROWS, T, ACTIVATION)
    if residual_ptr is not None:
        result += residual
    tl.store(out_ptr + at, result.to(out_ptr.dtype.element_ty), mask=inside)
    if rounded_ptr is not None:
        tl.store(rounded_ptr + at, result.to(rounded_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["num_tokens"])
def _dot_kernel(
    x_ptr,
    weight_ptr,
    norm_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    rounded_ptr,
    x_stride,
    residual_stride,
    num_rows,
    num_tokens,
    eps,
    K: tl.constexpr,
    T: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EVICT: tl.constexpr,
    PDL: tl.constexpr,
):
    TAIL: tl.constexpr = K % BLOCK_K != 0
    OUT_ROWS: tl.constexpr = ROWS if ACTIVATION == "" else ROWS // 2
    rows = _weight_rows(num_rows, ROWS, ACTIVATION)
    rows_ptr = weight_ptr + rows[:, None] * K
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + rows).to(tl.float32)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    at, inside = _out_offsets(num_rows, num_tokens, OUT_ROWS, T)
    if residual_ptr is not None:
        gap = tl.arange(0, T)[None, :] * (residual_stride - num_rows)
        residual = tl.load(residual_ptr + at + gap, mask=inside, other=0.0).to(tl.float32)
    tokens_ptr = (
        x_ptr + tl.minimum(tl.arange(0, T), num_tokens - 1).to(tl.int64)[:, None] * x_stride
    )
    k = tl.arange(0, BLOCK_K)[None, :]
    sums = tl.zeros((ROWS, T), tl.float32)
    squares = tl.zeros((T,), tl.float32)
    for start in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        cols = start + k
        tile = _tile(rows_ptr, cols, K, TAIL, EVICT)
        if norm_ptr is not None:
            x = _columns(tokens_ptr, cols, K, TAIL)
            squares += tl.sum(x * x, 1)
            x = (x * _columns(norm_ptr, cols, K, TAIL)).to(tile.dtype)
        else:
            x = _tile(tokens_ptr, cols, K, TAIL, "")
        sums = tl.dot(tile, tl.trans(x), sums)
    if norm_ptr is not None:
        sums *= tl.rsqrt(squares / K + eps)[None, :]
    if bias_ptr is not None:
        sums += bias[:, None]
    if ACTIVATION != "":
        sums = _gate(sums, ROWS, T, ACTIVATION)
    if residual_ptr is not None:
        sums += residual
    tl.store(out_ptr + at, sums.to(out_ptr.dtype.element_ty), mask=inside)
    if rounded_ptr is not None:
        tl.store(rounded_ptr + at, sums.to(rounded_ptr.dtype.element_ty), mask=inside)


@cache
def config(
    n: int, k: int, t: int, num_sms: int, *, gated: bool = False, dot: bool = True
) -> GemvTiling:
    """The tiling for a weight [n, k] and t vectors (1, 2, 4 or 8).

    n counts gate and up both; `dot`: tensor cores may be used (the dtypes allow it).
    Measured on an H200 for the matrices of an 8B and a 0.6B model in bf16. A short K leaves a warp
    with one or two loads a row, so it takes a program of its own; few rows need many warps each to
    keep enough bytes under way; beyond that, wide tiles of few rows read fastest.
    """
    if k <= 1024:
        if t == 8 and dot:
            return GemvTiling("dot", 32, 128, 2, 4)
        if t <= 2 and n < 64 * num_sms:
            return GemvTiling("fma", 2, 1024, 1)
        return GemvTiling("fma", 4, 512, 1)
    if n < 16 * num_sms:
        return GemvTiling("fma", 1 if t <= 2 and not gated else 2, 1024, 4)
    if t == 8 and dot:
        return GemvTiling("dot", 16, 512, 1, 3)
    if t >= 4 or (t == 2 and n > 32 * num_sms):
        return GemvTiling("fma", 4, 512, 2)
    return GemvTiling("fma", 2, 2048, 4) if n > 32 * num_sms else GemvTiling("fma", 4, 1024, 4)


def pays(num_tokens: int, weight: Tensor) -> bool:
    """Whether this kernel beats cuBLAS and the kernels around it, as measured on an H200."""
    return num_tokens <= 2 or (num_tokens <= MAX_TOKENS and weight.numel() <= 2**24)


@cache
def num_sms(device: torch.device) -> int:
    """Multiprocessors of a device; where kernels are simulated, an H200's."""
    if device.type != "cuda":
        return 132
    return torch.cuda.get_device_properties(device).multi_processor_count


def gemv(
    x: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    norm: Tensor | None = None,
    eps: float = 0.0,
    residual: Tensor | None = None,
    gated: str = "",
    out_dtype: torch.dtype | None = None,
    out: Tensor | None = None,
    rounded: Tensor | None = None,
    pdl: bool = False,
    tiling: GemvTiling | None = None,
) -> Tensor:
    """act(norm(x) · weightᵀ + bias) + residual for up to eight vectors, in one launch.

    x [T, K] with 1 ≤ T ≤ 8, rows contiguous; weight [N, K], contiguous, bf16, fp16 or fp32;
    bias [N]; norm: float32 [K], the weight of an RMSNorm with `eps` that x goes through first;
    residual [T, out]; gated: silu or gelu_tanh if weight is gate and up one behind the other.
    Returns [T, out], out = N or, gated, N / 2, in `out_dtype`: if None, in that of the residual, or
    else of the weight. Sums are float32, and so may x and residual be over 16-bit weights.

    `out`: [T, out], contiguous, to write to instead of a new tensor;
    `rounded`: [T, out] of another dtype, filled with the same; `pdl`: start while the kernel before
    is still running; `tiling`: instead of `config`'s choice.
    Raises ValueError for shapes and layouts outside of these.
    """
    (tokens, k), n = x.shape, weight.shape[0]
    if not 1 <= tokens <= MAX_TOKENS:
        raise ValueError(f"x must have 1 to {MAX_TOKENS} rows, not {tokens}")
    if weight.shape[1] != k or x.stride(1) != 1 or not weight.is_contiguous():
        raise ValueError(f"x {x.shape} and weight {weight.shape} must be row-major and share K")
    if gated and (gated not in ACTIVATIONS or n % 2):
        raise ValueError(f"gated must be one of {ACTIVATIONS} over an even N, not {gated!r}, {n}")
    width = n // 2 if gated else n
    if residual is not None and (residual.shape != (tokens, width) or residual.stride(1) != 1):
        raise ValueError(f"residual must be {(tokens, width)} row-major, not {residual.shape}")
    padded = 1 << (tokens - 1).bit_length()
    if tiling is None:
        # An fp16 product x·g can overflow before the norm scales it down: float32 there.
        dot = x.dtype == weight.dtype if norm is None else weight.dtype == torch.bfloat16
        dot = dot and weight.itemsize == 2
        tiling = config(n, k, padded, num_sms(x.device), gated=bool(gated), dot=dot)
    if out is None:
        dtype = out_dtype or (weight if residual is None else residual).dtype
        out = torch.empty((tokens, width), dtype=dtype, device=x.device)
    elif out.shape != (tokens, width) or not out.is_contiguous():
        raise ValueError(f"out must be {(tokens, width)} and contiguous, not {tuple(out.shape)}")
    mode, rows, block_k, warps, stages, evict = tiling
    kernel, inner = (_fma_kernel, 16 // weight.itemsize) if mode == "fma" else (_dot_kernel, stages)
    extra = {"launch_pdl": True} if pdl else {}
    kernel[(-(-n // rows),)](
        x, weight, norm, bias, residual, out, rounded,
        x.stride(0), residual.stride(0) if residual is not None else 0, width, tokens, eps,
        k, padded if mode == "fma" else MAX_TOKENS, rows, block_k, inner,
        gated, "evict_first" if evict else "", pdl, num_warps=warps, **extra,
    )  # fmt: skip
    return out
