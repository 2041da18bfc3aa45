"""The gate of an MLP: act(gate) · up, read once and written once.

Problem: torch computes it as two or three passes, each of which reads and writes [T, W] numbers
through memory, for a handful of arithmetic operations each.
Idea: one program takes a stretch of one token's row, reads gate and up, and writes the product.
Layout: the linear before it writes gate and up one behind the other, [T, 2·W], so the two operands
of an output lie W numbers apart in the same row.
Trade-off: none beyond one more kernel. For a few tokens even this pass is spared: `gemv` applies
the gate where it has the sums.
Paper: Shazeer 2020, GLU Variants Improve Transformer, arXiv:2002.05202.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ACTIVATIONS = ("silu", "gelu_tanh")
BLOCK = 1024


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """x · sigmoid(x), or GELU's tanh form as x · sigmoid(2u): tanh(u) = 2·sigmoid(2u) - 1."""
    z = x
    if ACTIVATION == "gelu_tanh":
        z = 1.5957691216057308 * (x + 0.044715 * x * x * x)  # 2 · sqrt(2 / pi)
    tail = tl.exp(-tl.abs(z))  # never overflows
    return x * tl.where(z >= 0, 1.0, tail) / (1.0 + tail)


@triton.jit
def _gated_kernel(
    gate_up_ptr,
    out_ptr,
    stride,
    width,
    ACTIVATION: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    row = gate_up_ptr + token * stride
    gate = tl.load(row + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(row + width + at, mask=inside, other=0.0).to(tl.float32)
    out = activate(gate, ACTIVATION) * up
    tl.store(out_ptr + token * width + at, out.to(out_ptr.dtype.element_ty), mask=inside)


def gated(gate_up: Tensor, activation: str, *, pdl: bool = False) -> Tensor:
    """act(gate) · up.

    gate_up [T, 2·W], any float dtype, the last dimension contiguous → [T, W] of the same dtype;
    activation: silu or gelu_tanh. `pdl`: start while the kernel before is still running
    (`gemv.py` says how). Raises ValueError for another activation or shape.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {ACTIVATIONS}, not {activation!r}")
    if gate_up.ndim != 2 or gate_up.shape[1] % 2 or gate_up.stride(1) != 1:
        raise ValueError(f"gate_up must be [T, 2·W] with contiguous rows, not {gate_up.shape}")
    tokens, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty((tokens, width), dtype=gate_up.dtype, device=gate_up.device)
    if tokens:
        extra = {"launch_pdl": True} if pdl else {}
        _gated_kernel[(tokens, -(-width // BLOCK))](
            gate_up, out, gate_up.stride(0), width, activation, BLOCK, pdl, num_warps=4, **extra
        )
    return out
