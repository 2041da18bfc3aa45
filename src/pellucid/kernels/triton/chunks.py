"""A row of logits in chunks: how a chunk is read, and its maximum and sum of exp.

A vocabulary of 152,000 tokens is cut into 149 chunks of 1,024. One launch reads all logits and
leaves two numbers per chunk; what follows (a draw, a threshold, the best five) then reads only the
chunks that those numbers leave in question.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

CHUNK = 1024
"""Tokens in a chunk. The draw depends on it, so it is one number for all batch sizes."""
GROUP = 4
"""Chunks that one program reads."""


def check(logits: torch.Tensor, *columns: tuple[torch.Tensor, torch.dtype]) -> None:
    """`ValueError` unless logits are [R, V], their columns adjacent, and `columns` [R] as named."""
    if logits.ndim != 2 or logits.shape[1] == 0 or logits.stride(1) != 1:
        raise ValueError(
            f"logits must be [rows, vocab] with adjacent columns, not {tuple(logits.shape)} with "
            f"strides {logits.stride()}"
        )
    for column, dtype in columns:
        if column.shape != logits.shape[:1] or column.dtype is not dtype:
            raise ValueError(
                f"want {dtype} [{logits.shape[0]}], not {column.dtype} {tuple(column.shape)}"
            )


def buffers(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum and sum of exp of each chunk, float32 [R, chunks] each."""
    rows, vocab = logits.shape
    both = logits.new_empty((2, rows, triton.cdiv(vocab, CHUNK)), dtype=torch.float32)
    return both[0], both[1]


def weigh_rows(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    least: torch.Tensor | None,
    tops: torch.Tensor,
    sums: torch.Tensor,
    softcap: float,
) -> None:
    """Write each chunk's maximum to `tops` and Σ exp((x - maximum) / T) to `sums`.

    With `least` (float32 [R], the smallest logit kept) the maxima are there already, and the sums
    leave out what is below it.
    """
    rows, vocab = logits.shape
    num_chunks = tops.shape[1]
    if rows == 0:
        return
    _weigh[(rows * triton.cdiv(num_chunks, GROUP),)](
        logits,
        logits.stride(0),
        temperature,
        temperature if least is None else least,
        tops,
        sums,
        vocab,
        num_chunks,
        SOFTCAP=softcap,
        TRUNCATED=least is not None,
        GROUP=GROUP,
        SIZE=CHUNK,
        num_warps=4,
    )


def slots(num_chunks: int) -> int:
    """Chunks of a row, rounded up to what a block of registers can hold."""
    return max(32, 1 << (num_chunks - 1).bit_length())


NEVER = tl.constexpr(float("-inf"))


@triton.jit
def read(pointers, inside, OUTSIDE: tl.constexpr, SOFTCAP: tl.constexpr):
    """Logits in float32, capped; OUTSIDE where not inside."""
    x = tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    if SOFTCAP > 0:
        e = tl.exp(-2.0 / SOFTCAP * tl.abs(x))  # tanh without overflow, the same on both sides
        x = tl.where(x < 0, -SOFTCAP, SOFTCAP) * ((1.0 - e) / (1.0 + e))
    return tl.where(inside, x, OUTSIDE)


@triton.jit
def inverse_of(temperature):
    """1 / T, finite; 1 for greedy rows, whose weights nobody reads."""
    return tl.where(temperature > 0, 1.0 / tl.maximum(temperature, 1e-30), 1.0)


@triton.jit
def finite(top):
    """A maximum to subtract: 0 where everything is -inf, for -inf less -inf is no number."""
    return tl.where(top == NEVER, 0.0, top)


@triton.jit
def _weigh(
    logits,
    stride,
    temperature,
    least,
    tops,
    sums,
    vocab,
    num_chunks,
    SOFTCAP: tl.constexpr,
    TRUNCATED: tl.constexpr,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Maximum and Σ exp((x - maximum) / T) of GROUP chunks of a row.

    TRUNCATED: the maxima are there already, and the sums leave out what is below `least`.
    """
    groups = tl.cdiv(num_chunks, GROUP)
    row = (tl.program_id(0) // groups).to(tl.int64)
    chunk = (tl.program_id(0) % groups) * GROUP + tl.arange(0, GROUP)
    places = row * num_chunks + chunk
    inverse = inverse_of(tl.load(temperature + row))
    if TRUNCATED:
        floor = tl.load(least + row)
        if floor == NEVER:
            return
        top = tl.load(tops + places, mask=chunk < num_chunks, other=NEVER)
        if tl.max(top) < floor:
            tl.store(sums + places, tl.zeros_like(top), mask=chunk < num_chunks)
            return
    column = chunk[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    x = read(logits + row * stride + column, column < vocab, NEVER, SOFTCAP)  # [GROUP, SIZE]
    if TRUNCATED:
        x = tl.where(x >= floor, x, NEVER)
    else:
        top = tl.max(x, axis=1)
        tl.store(tops + places, top, mask=chunk < num_chunks)
    weights = tl.exp((x - finite(top)[:, None]) * inverse)
    tl.store(sums + places, tl.sum(weights, axis=1), mask=chunk < num_chunks)
