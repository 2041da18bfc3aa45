"""From logits to one token per row: no sort, no softmax written to memory, no generator.

**Drawing.** The textbook way (softmax, cumulative sum, search) goes over the vocabulary four or
five times. Gumbel's trick goes over it once: with x = logit / T and independent exponential E,

    argmax_i (x_i - log E_i)   is i with probability   exp(x_i) / sum_j exp(x_j)

because E_i · exp(-x_i) are exponentials with rates exp(x_i), and which of them rings first is i
with its share of the total rate (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030). A random
number per token would cost more than reading the token's logit, though. But the first ring of a
*group* is itself exponential, with the group's total rate, and independent of who in the group
rang. So the row is cut into chunks; the first launch reads all logits and leaves per chunk only
its maximum and its sum of exp; the second draws the chunk by Gumbel's trick on the sums, and then,
reading only that chunk again, the token within it. It is the same law, to the rounding of a sum.

**Which bits matter.** The winner of n rivals has E of about 1/n, and a token of probability p wins
only with E below about p. So it is *small* E that must be finely resolved, and E = -log1p(-u) is
small when u is. A float32 in [0, 1) made of 24 bits would make every token below 6e-8 impossible or
too likely. Here u has 64 bits of Philox (Salmon et al. 2011, doi:10.1145/2063384.2063405), counted
from the nearer end of the unit interval, so that both tails keep 24 significant bits down to 2e-12,
and no u is 0 or 1. The counter is the token's index and the seed is the row's key: a draw is a pure
function of (key, logits), on any machine, in any batch, at any grid.

**Truncating.** top-k, top-p and min-p keep the tokens above a threshold, which `threshold.py`
finds by a search. A further launch then sums the chunks again without what fell away, and the draw
is the same as above.

Every launch is fixed by shapes alone, so a CUDA graph can hold them; temperatures, thresholds and
keys may be rewritten between its replays.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from pellucid.kernels.triton.chunks import (
    CHUNK,
    NEVER,
    buffers,
    check,
    finite,
    inverse_of,
    read,
    slots,
    weigh_rows,
)
from pellucid.kernels.triton.threshold import search_rows


def choose(
    logits: torch.Tensor, temperature: torch.Tensor, keys: torch.Tensor, *, softcap: float = 0.0
) -> torch.Tensor:
    """One token per row: int64 [R].

    logits [R, V] float32, float16 or bfloat16, columns adjacent, any row stride; temperature
    float32 [R], 0 takes the first of the most likely tokens; keys int64 [R], a random number per
    row. softcap c > 0 takes c·tanh(logit / c) for the logit. A token of -inf is never drawn; a row
    that has nothing else gives -2, one with NaN or +inf gives -1. `ValueError` for shapes and
    dtypes that do not fit.
    """
    check(logits, (temperature, torch.float32), (keys, torch.int64))
    tops, sums = buffers(logits)
    weigh_rows(logits, temperature, None, tops, sums, softcap)
    return _draw_rows(logits, temperature, keys, None, tops, sums, softcap)


def choose_truncated(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    keys: torch.Tensor,
    *,
    softcap: float = 0.0,
) -> torch.Tensor:
    """Like `choose`, among the tokens that top-k, then top-p, then min-p leave: int64 [R].

    top_k int32 [R], 0 for all; top_p float32 [R], 1 for all, counted in units of what top-k left;
    min_p float32 [R], 0 for none, relative to the most likely token. That one always stays. Ties
    with the last token kept are kept as well. A draw is the one that `choose` makes when the logits
    of all other tokens are -inf.
    """
    check(logits, (temperature, torch.float32), (keys, torch.int64))
    tops, sums = buffers(logits)
    weigh_rows(logits, temperature, None, tops, sums, softcap)
    least = search_rows(logits, temperature, top_k, top_p, min_p, tops, sums, softcap)
    weigh_rows(logits, temperature, least, tops, sums, softcap)
    return _draw_rows(logits, temperature, keys, least, tops, sums, softcap)


def largest_logits(
    logits: torch.Tensor, num_top: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log Σ exp [R] of each row, its `num_top` largest logits and their tokens, [R, num_top] each.

    One pass over the logits leaves maximum and sum of each chunk. The k largest logits lie in the k
    chunks with the largest maxima: a token in another chunk has k tokens before it, theirs. So no
    more than those chunks are read again and sorted.
    """
    check(logits)
    vocab = logits.shape[1]
    tops, sums = buffers(logits)
    weigh_rows(logits, torch.ones_like(tops[:, 0]), None, tops, sums, 0.0)
    best = tops.amax(dim=-1)
    norm = best + torch.log((sums * torch.exp(tops - best[:, None])).sum(dim=-1))
    chunks = torch.topk(tops, min(num_top, tops.shape[1]), dim=-1).indices
    tokens = (chunks[..., None] * CHUNK + torch.arange(CHUNK, device=logits.device)).flatten(1)
    found = logits.gather(1, tokens.clamp_max(vocab - 1)).masked_fill_(tokens >= vocab, -torch.inf)
    values, places = torch.topk(found, num_top, dim=-1)
    return norm, values, tokens.gather(1, places)


def _draw_rows(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    keys: torch.Tensor,
    least: torch.Tensor | None,
    tops: torch.Tensor,
    sums: torch.Tensor,
    softcap: float,
) -> torch.Tensor:
    rows, vocab = logits.shape
    tokens = torch.empty_like(keys)
    if rows == 0:
        return tokens
    _draw[(rows,)](
        logits,
        logits.stride(0),
        temperature,
        keys,
        temperature if least is None else least,
        tops,
        sums,
        tokens,
        vocab,
        tops.shape[1],
        SOFTCAP=softcap,
        TRUNCATED=least is not None,
        SLOTS=slots(tops.shape[1]),
        SIZE=CHUNK,
        num_warps=8,
    )
    return tokens


NO_NUMBER = tl.constexpr(-1)
"""In place of a token: some logit is NaN or infinity."""
NO_TOKEN = tl.constexpr(-2)
"""In place of a token: all logits are -inf."""


@triton.jit
def _gumbel(key, counter):
    """-log E of each 64-bit counter, E exponential with mean 1, from 64 random bits."""
    high, low, _, _ = tl.randint4x(key, counter)
    high = high.to(tl.uint32, bitcast=True)
    low = low.to(tl.uint32, bitcast=True)
    # The distance to the nearer end of (0, 1), of which a float then keeps 24 significant bits.
    far = high >= 0x80000000
    high = tl.where(far, high ^ 0xFFFFFFFF, high)
    low = tl.where(far, low ^ 0xFFFFFFFF, low)
    d = high.to(tl.float32) * 2.0**-32 + (low.to(tl.float32) + 0.5) * 2.0**-64  # (0, 1/2]
    # -log(1-d) = d · log(w) / (w-1) with w = 1-d as rounded: its error cancels (Kahan). Or -log(d).
    w = tl.where(far, d, 1.0 - d)
    log = tl.log(w)
    tiny = w == 1.0
    near = tl.where(tiny, d, log * d / tl.where(tiny, 1.0, w - 1.0))
    return -tl.log(tl.where(far, -log, near))


@triton.jit
def _draw(
    logits,
    stride,
    temperature,
    keys,
    least,
    tops,
    sums,
    tokens,
    vocab,
    num_chunks,
    SOFTCAP: tl.constexpr,
    TRUNCATED: tl.constexpr,
    SLOTS: tl.constexpr,
    SIZE: tl.constexpr,
):
    """The row's chunk, then the token in it; greedy rows by maximum, others by Gumbel's trick."""
    row = tl.program_id(0).to(tl.int64)
    warmth = tl.load(temperature + row)
    inverse = inverse_of(warmth)
    key = tl.load(keys + row)
    chunks = tl.arange(0, SLOTS)
    here = chunks < num_chunks
    top = tl.load(tops + row * num_chunks + chunks, mask=here, other=NEVER)
    weight = tl.load(sums + row * num_chunks + chunks, mask=here, other=0.0)
    # Chunks count from 2^32, so that their numbers are not those of tokens.
    noise = _gumbel(key, chunks.to(tl.int64) + 4294967296)
    scaled = (top - finite(tl.max(top))) * inverse + tl.log(tl.where(weight > 0, weight, 1.0))
    score = tl.where(weight > 0, scaled + noise, NEVER)
    chunk = tl.argmax(tl.where(warmth > 0, score, top), axis=0)

    token = chunk * SIZE + tl.arange(0, SIZE)
    x = read(logits + row * stride + token, token < vocab, NEVER, SOFTCAP)
    total = tl.sum(weight)
    if TRUNCATED:
        floor = tl.load(least + row)
        x = tl.where(x >= floor, x, NEVER)
        total = tl.where(floor == floor, total, float("nan"))
    scaled = (x - finite(tl.max(x))) * inverse + _gumbel(key, token.to(tl.int64))
    score = tl.where(x == NEVER, NEVER, scaled)
    best = chunk * SIZE + tl.argmax(tl.where(warmth > 0, score, x), axis=0)
    best = tl.minimum(best, vocab - 1).to(tl.int64)
    # A chunk's sum is at least 1 where a token is possible, and no number where a logit is none.
    best = tl.where(total > 0, best, tl.where(total == 0, NO_TOKEN, NO_NUMBER))
    tl.store(tokens + row, best)
