"""Penalties, biases and forbidden tokens, applied to the logits where they lie.

Problem: a row with a repetition penalty needs to know what its sequence has said so far. Sent from
the host, that is a list that grows with every token, and the host would have to see each token
before it can send it.

Idea: each sequence has a row of counters on the device, one per token of the vocabulary. The step
that computes a token counts it there and at once applies the penalties, so nothing waits for the
host. Biases and forbidden tokens are short lists of (token, number), stored once.

    counters   bit 0: the token is in the prompt; the bits above: how often it is in the answer

A row that asks for none of this costs a program that reads one number and returns.
Sources: repetition penalty, Keskar et al. 2019 (CTRL), arXiv:1909.05858, over prompt and answer;
presence and frequency as OpenAI defines them, over the answer.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.columns import Column

_CHUNK = 4096
_REPETITION = tl.constexpr(int(Column.REPETITION))
_PRESENCE = tl.constexpr(int(Column.PRESENCE))
_FREQUENCY = tl.constexpr(int(Column.FREQUENCY))
_PENALIZED = tl.constexpr(int(Column.PENALIZED))
_NUM_BIAS = tl.constexpr(int(Column.NUM_BIAS))
_NUM_ENDS = tl.constexpr(int(Column.NUM_ENDS))
_ENDS_FROM = tl.constexpr(int(Column.ENDS_FROM))
_NUM_KNOWN = tl.constexpr(int(Column.NUM_KNOWN))


def adjust(
    logits: Tensor,
    places: Tensor,
    tokens: Tensor,
    positions: Tensor,
    settings: Tensor,
    counts: Tensor,
    edit_tokens: Tensor,
    edit_values: Tensor,
) -> None:
    """Twin and meaning: `kernels.reference.adjust.adjust`."""
    rows, vocab = logits.shape
    if rows == 0:
        return
    _penalize[(rows, triton.cdiv(vocab, _CHUNK))](
        logits, logits.stride(0), places, tokens, positions, settings, settings.stride(0),
        counts, counts.stride(0), vocab, SIZE=_CHUNK, num_warps=8,
    )  # fmt: skip
    _edit[(rows,)](
        logits, logits.stride(0), places, positions, settings, settings.stride(0),
        edit_tokens, edit_values, edit_tokens.stride(0), SIZE=128, num_warps=4,
    )  # fmt: skip


@triton.jit
def _float_of(settings, stride, row, COLUMN: tl.constexpr):
    return tl.load(settings + COLUMN * stride + row).to(tl.float32, bitcast=True)


@triton.jit
def _penalize(
    logits, logit_stride, places, tokens, positions, settings, setting_stride,
    counts, count_stride, vocab,
    SIZE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    if tl.load(settings + _PENALIZED * setting_stride + row) == 0:
        return
    column = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = column < vocab
    counters = counts + tl.load(places + row) * count_stride + column
    count = tl.load(counters, mask=inside, other=0)
    # The row's last token is counted here and now, unless the host has counted it already.
    is_new = tl.load(positions + row) >= tl.load(settings + _NUM_KNOWN * setting_stride + row)
    is_here = (column == tl.load(tokens + row)) & is_new & inside
    count = tl.where(is_here, count + 2, count)
    tl.store(counters, count, mask=is_here)

    x = tl.load(logits + row.to(tl.int64) * logit_stride + column, mask=inside, other=0.0)
    repetition = _float_of(settings, setting_stride, row, _REPETITION)
    presence = _float_of(settings, setting_stride, row, _PRESENCE)
    frequency = _float_of(settings, setting_stride, row, _FREQUENCY)
    x = tl.where(count > 0, tl.where(x > 0, x / repetition, x * repetition), x)
    in_answer = count >> 1
    x -= in_answer.to(tl.float32) * frequency
    x -= tl.where(in_answer > 0, presence, 0.0)
    tl.store(logits + row.to(tl.int64) * logit_stride + column, x, mask=inside)


@triton.jit
def _edit(
    logits, logit_stride, places, positions, settings, setting_stride,
    edit_tokens, edit_values, edit_stride,
    SIZE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    num_bias = tl.load(settings + _NUM_BIAS * setting_stride + row)
    num_ends = tl.load(settings + _NUM_ENDS * setting_stride + row)
    # The token to come takes the next position.
    allowed = tl.load(positions + row) + 1 >= tl.load(settings + _ENDS_FROM * setting_stride + row)
    num_ends = tl.where(allowed, 0, num_ends)
    if num_bias + num_ends == 0:
        return
    place = tl.load(places + row)
    logits += row.to(tl.int64) * logit_stride
    edit_tokens += place * edit_stride
    edit_values += place * edit_stride
    for begin in range(0, num_bias, SIZE):
        at = begin + tl.arange(0, SIZE)
        here = at < num_bias
        token = tl.load(edit_tokens + at, mask=here, other=0)
        x = tl.load(logits + token, mask=here, other=0.0)
        tl.store(logits + token, x + tl.load(edit_values + at, mask=here, other=0.0), mask=here)
    tl.debug_barrier()  # a token may have a bias and be forbidden
    for begin in range(0, num_ends, SIZE):
        at = begin + tl.arange(0, SIZE)
        here = at < num_ends
        token = tl.load(edit_tokens + num_bias + at, mask=here, other=0)
        tl.store(logits + token, float("-inf"), mask=here)
