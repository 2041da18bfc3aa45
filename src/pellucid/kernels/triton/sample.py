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

**Truncating.** top-k, top-p and min-p keep the tokens above a threshold. A sort finds it by putting
152,000 numbers in order, of which twenty are wanted. Here one program per row searches for it:

    1. The first launch's maxima bound it from below: k chunks have a maximum of at least the k-th
       largest one; tokens below (1-p)·sum/vocabulary weigh less than 1-p together. On a real
       model's logits some hundred tokens pass, in few chunks, and only those chunks are read.
    2. While more pass than fit in one block of registers: one pass with eight thresholds at once
       (Σ weights above each), and go on between the two neighbours that enclose the goal.
    3. Those that fit are gathered, and the search goes on in registers, again eight at a time, on
       the 32 bits of the float as an ordered integer: it ends at one value, exactly.

Tokens tied with the last one kept are all kept. Everything is summed in an order that is fixed by
the vocabulary's size alone. A third launch sums the chunks again without what fell away, and the
draw is the same as above. Radix and pivot searches for this purpose: Alabi et al. 2012,
doi:10.1145/2133803.2345676; FlashInfer, Ye et al. 2025, arXiv:2501.01005.

Every launch is fixed by shapes alone, so a CUDA graph can hold them; temperatures, thresholds and
keys may be rewritten between its replays.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

CHUNK = 1024
"""Tokens in a chunk. The draw depends on it, so it is one number for all batch sizes."""
_GROUP = 4
"""Chunks that one program of the first launch sums."""
_ROOM = 1024
"""Candidates that the search holds in registers."""
_THREADS = 512
"""Threads of a row's search."""


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
    _check(logits, (temperature, torch.float32), (keys, torch.int64))
    tops, sums = _buffers(logits)
    _weigh_rows(logits, temperature, None, tops, sums, softcap)
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
    _check(logits, (temperature, torch.float32), (keys, torch.int64))
    tops, sums = _buffers(logits)
    _weigh_rows(logits, temperature, None, tops, sums, softcap)
    least = _search_rows(logits, temperature, top_k, top_p, min_p, tops, sums, softcap)
    _weigh_rows(logits, temperature, least, tops, sums, softcap)
    return _draw_rows(logits, temperature, keys, least, tops, sums, softcap)


def least_kept(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    *,
    softcap: float = 0.0,
) -> torch.Tensor:
    """What `choose_truncated` keeps: the (capped) logits from here on, float32 [R].

    -inf where nothing truncates, which includes greedy rows.
    """
    _check(logits, (temperature, torch.float32))
    tops, sums = _buffers(logits)
    _weigh_rows(logits, temperature, None, tops, sums, softcap)
    return _search_rows(logits, temperature, top_k, top_p, min_p, tops, sums, softcap)


def largest_logits(
    logits: torch.Tensor, num_top: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log Σ exp [R] of each row, its `num_top` largest logits and their tokens, [R, num_top] each.

    One pass over the logits leaves maximum and sum of each chunk. The k largest logits lie in the k
    chunks with the largest maxima: a token in another chunk has k tokens before it, theirs. So no
    more than those chunks are read again and sorted.
    """
    _check(logits)
    vocab = logits.shape[1]
    tops, sums = _buffers(logits)
    _weigh_rows(logits, torch.ones_like(tops[:, 0]), None, tops, sums, 0.0)
    best = tops.amax(dim=-1)
    norm = best + torch.log((sums * torch.exp(tops - best[:, None])).sum(dim=-1))
    chunks = torch.topk(tops, min(num_top, tops.shape[1]), dim=-1).indices
    tokens = (chunks[..., None] * CHUNK + torch.arange(CHUNK, device=logits.device)).flatten(1)
    found = logits.gather(1, tokens.clamp_max(vocab - 1)).masked_fill_(tokens >= vocab, -torch.inf)
    values, places = torch.topk(found, num_top, dim=-1)
    return norm, values, tokens.gather(1, places)


def _check(logits: torch.Tensor, *columns: tuple[torch.Tensor, torch.dtype]) -> None:
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


def _buffers(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum and sum of exp of each chunk, float32 [R, chunks] each."""
    rows, vocab = logits.shape
    both = logits.new_empty((2, rows, triton.cdiv(vocab, CHUNK)), dtype=torch.float32)
    return both[0], both[1]


def _weigh_rows(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    least: torch.Tensor | None,
    tops: torch.Tensor,
    sums: torch.Tensor,
    softcap: float,
) -> None:
    rows, vocab = logits.shape
    num_chunks = tops.shape[1]
    if rows == 0:
        return
    _weigh[(rows * triton.cdiv(num_chunks, _GROUP),)](
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
        GROUP=_GROUP,
        SIZE=CHUNK,
        num_warps=4,
    )


def _search_rows(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    tops: torch.Tensor,
    sums: torch.Tensor,
    softcap: float,
) -> torch.Tensor:
    _check(logits, (top_k, torch.int32), (top_p, torch.float32), (min_p, torch.float32))
    rows, vocab = logits.shape
    num_chunks = tops.shape[1]
    slots = _slots(num_chunks)
    least = torch.empty_like(temperature)
    if rows == 0:
        return least
    _search[(rows,)](
        logits,
        logits.stride(0),
        temperature,
        top_k,
        top_p,
        min_p,
        tops,
        sums,
        logits.new_empty((rows, slots), dtype=torch.int32),
        logits.new_empty((rows, _ROOM), dtype=torch.float32),
        least,
        vocab,
        num_chunks,
        SOFTCAP=softcap,
        SLOTS=slots,
        ROOM=_ROOM,
        LANES=_THREADS,
        WIDTH=16 // logits.element_size(),
        SIZE=CHUNK,
        num_warps=_THREADS // 32,
    )
    return least


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
        SLOTS=_slots(tops.shape[1]),
        SIZE=CHUNK,
        num_warps=8,
    )
    return tokens


def _slots(num_chunks: int) -> int:
    """Chunks of a row, rounded up to what a block of registers can hold."""
    return max(32, 1 << (num_chunks - 1).bit_length())


NEVER = tl.constexpr(float("-inf"))
NOTHING = tl.constexpr(float("nan"))
"""Beyond the row's end: not above any threshold, not even -inf."""
NO_NUMBER = tl.constexpr(-1)
"""In place of a token: some logit is NaN or infinity."""
NO_TOKEN = tl.constexpr(-2)
"""In place of a token: all logits are -inf."""
BOTTOM = tl.constexpr(-0x7F800001)
"""-inf as an ordered integer."""


@triton.jit
def _read(pointers, inside, OUTSIDE: tl.constexpr, SOFTCAP: tl.constexpr):
    """Logits in float32, capped; OUTSIDE where not inside."""
    x = tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    if SOFTCAP > 0:
        e = tl.exp(-2.0 / SOFTCAP * tl.abs(x))  # tanh without overflow, the same on both sides
        x = tl.where(x < 0, -SOFTCAP, SOFTCAP) * ((1.0 - e) / (1.0 + e))
    return tl.where(inside, x, OUTSIDE)


@triton.jit
def _inverse(temperature):
    """1 / T, finite; 1 for greedy rows, whose weights nobody reads."""
    return tl.where(temperature > 0, 1.0 / tl.maximum(temperature, 1e-30), 1.0)


@triton.jit
def _finite(top):
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
    inverse = _inverse(tl.load(temperature + row))
    if TRUNCATED:
        floor = tl.load(least + row)
        if floor == NEVER:
            return
        top = tl.load(tops + places, mask=chunk < num_chunks, other=NEVER)
        if tl.max(top) < floor:
            tl.store(sums + places, tl.zeros_like(top), mask=chunk < num_chunks)
            return
    column = chunk[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    x = _read(logits + row * stride + column, column < vocab, NEVER, SOFTCAP)  # [GROUP, SIZE]
    if TRUNCATED:
        x = tl.where(x >= floor, x, NEVER)
    else:
        top = tl.max(x, axis=1)
        tl.store(tops + places, top, mask=chunk < num_chunks)
    weights = tl.exp((x - _finite(top)[:, None]) * inverse)
    tl.store(sums + places, tl.sum(weights, axis=1), mask=chunk < num_chunks)


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
    inverse = _inverse(warmth)
    key = tl.load(keys + row)
    chunks = tl.arange(0, SLOTS)
    here = chunks < num_chunks
    top = tl.load(tops + row * num_chunks + chunks, mask=here, other=NEVER)
    weight = tl.load(sums + row * num_chunks + chunks, mask=here, other=0.0)
    # Chunks count from 2^32, so that their numbers are not those of tokens.
    noise = _gumbel(key, chunks.to(tl.int64) + 4294967296)
    scaled = (top - _finite(tl.max(top))) * inverse + tl.log(tl.where(weight > 0, weight, 1.0))
    score = tl.where(weight > 0, scaled + noise, NEVER)
    chunk = tl.argmax(tl.where(warmth > 0, score, top), axis=0)

    token = chunk * SIZE + tl.arange(0, SIZE)
    x = _read(logits + row * stride + token, token < vocab, NEVER, SOFTCAP)
    total = tl.sum(weight)
    if TRUNCATED:
        floor = tl.load(least + row)
        x = tl.where(x >= floor, x, NEVER)
        total = tl.where(floor == floor, total, float("nan"))
    scaled = (x - _finite(tl.max(x))) * inverse + _gumbel(key, token.to(tl.int64))
    score = tl.where(x == NEVER, NEVER, scaled)
    best = chunk * SIZE + tl.argmax(tl.where(warmth > 0, score, x), axis=0)
    best = tl.minimum(best, vocab - 1).to(tl.int64)
    # A chunk's sum is at least 1 where a token is possible, and no number where a logit is none.
    best = tl.where(total > 0, best, tl.where(total == 0, NO_TOKEN, NO_NUMBER))
    tl.store(tokens + row, best)


@triton.jit
def _ordered(value):
    """A float32 as an integer that is ordered as the float is, int64."""
    bits = value.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)


@triton.jit
def _float(key):
    """The inverse of `_ordered`."""
    bits = key.to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _eighths(low, high):
    """Eight thresholds from `low` on, evenly over the integers below `high`; int64 [8]."""
    return low + ((high - low) * tl.arange(0, 8) >> 3)


@triton.jit
def _spread(low, high, span):
    """Eight thresholds evenly over the values; below a `low` of -inf, over 4 spans at first."""
    top = _float(high)
    base = tl.maximum(_float(low), top - 4.0 * span)
    part = tl.arange(0, 8)
    keys = _ordered(base + (top - base) * (part.to(tl.float32) * 0.125))
    return tl.where(part == 0, low, tl.minimum(tl.maximum(keys, low), high - 1))


@triton.jit
def _narrow(keys, masses, goal, low, high, above):
    """The neighbours among thresholds that enclose the goal, and the mass from the upper one on.

    masses[i] is what lies at keys[i] or above; at `low` it reaches the goal, at `high` it does not.
    """
    enough = masses >= goal
    low = tl.max(tl.where(enough, keys, low))
    high = tl.min(tl.where(enough, high, keys))
    above = tl.maximum(above, tl.max(tl.where(enough, 0.0, masses)))
    return low, tl.maximum(high, low + 1), above


@triton.jit
def _settle(values, weights, goal, low, high, above):
    """The last threshold in [low, high) at which the values in registers reach the goal."""
    while high - low > 1:
        keys = _eighths(low, high)
        over = values[:, None] >= _float(keys)[None, :]
        masses = above + tl.sum(tl.where(over, weights[:, None], 0.0), axis=0)
        low, high, _ = _narrow(keys, masses, goal, low, high, 0.0)
    return low


@triton.jit
def _tile(row_logits, chunk_list, at, count, vocab, SOFTCAP, LANES, WIDTH, SIZE):
    """Logits of the listed chunks from number `at` on, [LANES, WIDTH]; no number past the end."""
    lane = tl.arange(0, LANES)
    slot = at + lane // (SIZE // WIDTH)
    chunk = tl.load(chunk_list + slot, mask=slot < count, other=0)
    start = chunk * SIZE + lane % (SIZE // WIDTH) * WIDTH
    column = start[:, None] + tl.arange(0, WIDTH)[None, :]
    inside = (slot < count)[:, None] & (column < vocab)
    return _read(row_logits + column, inside, NOTHING, SOFTCAP)


@triton.jit
def _gather(
    row_logits, chunk_list, count, head, low, high, vocab, SOFTCAP, ROOM, LANES, WIDTH, SIZE
):
    """Write the values in [low, high) to `head`; returns how many, or some number above ROOM."""
    found = 0
    at = 0
    while (at < count) & (found <= ROOM):
        x = _tile(row_logits, chunk_list, at, count, vocab, SOFTCAP, LANES, WIDTH, SIZE)
        x = tl.reshape(x, [LANES * WIDTH])
        inside = (x >= _float(low)) & (x < _float(high))
        ones = inside.to(tl.int32)
        place = found + tl.cumsum(ones, axis=0) - 1
        tl.store(head + place, x, mask=inside & (place < ROOM))
        found += tl.sum(ones)
        at += LANES * WIDTH // SIZE
    tl.debug_barrier()  # what other threads wrote is read next
    return found


@triton.jit
def _pick(vector, index: tl.constexpr):
    """vector[index] of eight."""
    return tl.sum(tl.where(tl.arange(0, 8) == index, vector, 0))


@triton.jit
def _masses(
    row_logits, chunk_list, count, keys, best, inverse, counting,
    vocab, SOFTCAP, LANES, WIDTH, SIZE,
):  # fmt: skip
    """Number (counting) or weight of the values from each of eight thresholds on, float32 [8]."""
    # Eight scalars and eight running sums of one register each: a tensor with a dimension of eight
    # would be spread over the threads, by way of shared memory.
    pivots = ()
    sums = ()
    for i in tl.static_range(8):
        pivots += (_float(_pick(keys, i)),)  # type: ignore[assignment]
        sums += (tl.zeros([LANES], dtype=tl.float32),)  # type: ignore[assignment]
    for at in range(0, count, LANES * WIDTH // SIZE):
        x = _tile(row_logits, chunk_list, at, count, vocab, SOFTCAP, LANES, WIDTH, SIZE)
        weights = tl.where(counting, 1.0, tl.exp((x - best) * inverse))
        sums = _added(sums, x, weights, pivots)
    masses = tl.zeros([8], dtype=tl.float32)
    for i in tl.static_range(8):
        masses = tl.where(tl.arange(0, 8) == i, tl.sum(sums[i]), masses)
    return masses


@triton.jit
def _added(sums, x, weights, pivots):
    """The running sums and a tile's weights from each threshold on."""
    out = ()
    for i in tl.static_range(8):
        over = tl.where(x >= pivots[i], weights, 0.0)
        out += (sums[i] + tl.sum(over, axis=1),)  # type: ignore[assignment]
    return out


@triton.jit
def _active(top, here, low, chunk_list, SLOTS):
    """List the chunks that reach `low`; returns how many."""
    active = here & (top >= _float(low))
    order = tl.cumsum(active.to(tl.int32), axis=0)
    tl.store(chunk_list + order - 1, tl.arange(0, SLOTS), mask=active)
    tl.debug_barrier()
    return tl.max(order)


@triton.jit
def _find(
    row_logits, chunk_list, count, head, goal, share, counting, low, high, span, best, inverse,
    vocab, SOFTCAP, ROOM, LANES, WIDTH, SIZE,
):  # fmt: skip
    """The last threshold in [low, high) at which the listed chunks reach the goal.

    counting: the goal is a number of tokens; else a sum of weights. A goal below 0 stands for
    `share` of everything from `low` on.
    """
    above = 0.0
    turn = 0
    found = _gather(
        row_logits, chunk_list, count, head, low, high, vocab, SOFTCAP, ROOM, LANES, WIDTH, SIZE
    )
    while (found > ROOM) & (high - low > 1):
        # Evenly over values is fast, evenly over integers is sure to end.
        keys = tl.where(turn < 4, _spread(low, high, span), _eighths(low, high))
        masses = _masses(
            row_logits, chunk_list, count, keys, best, inverse, counting,
            vocab, SOFTCAP, LANES, WIDTH, SIZE,
        )  # fmt: skip
        goal = tl.where(goal < 0, share * tl.max(masses), goal)
        low, high, above = _narrow(keys, masses, goal, low, high, above)
        found = _gather(
            row_logits, chunk_list, count, head, low, high, vocab, SOFTCAP, ROOM, LANES, WIDTH, SIZE
        )
        turn += 1
    if high - low > 1:
        place = tl.arange(0, ROOM)
        values = tl.load(head + place, mask=place < found, other=NEVER)
        weights = tl.where(counting, 1.0, tl.exp((values - best) * inverse))
        weights = tl.where(place < found, weights, 0.0)
        goal = tl.where(goal < 0, share * tl.sum(weights), goal)
        low = _settle(values, weights, goal, low, high, above)
    return low


@triton.jit
def _search(
    logits,
    stride,
    temperature,
    top_ks,
    top_ps,
    min_ps,
    tops,
    sums,
    lists,
    heads,
    least,
    vocab,
    num_chunks,
    SOFTCAP: tl.constexpr,
    SLOTS: tl.constexpr,
    ROOM: tl.constexpr,
    LANES: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
):
    """The smallest logit kept, by the steps in the file's head."""
    row = tl.program_id(0).to(tl.int64)
    warmth = tl.load(temperature + row)
    k = tl.load(top_ks + row)
    p = tl.load(top_ps + row)
    ratio = tl.load(min_ps + row)
    has_k = (k > 0) & (k <= vocab)
    if (warmth <= 0) | ~(has_k | (p < 1) | (ratio > 0)):
        tl.store(least + row, NEVER)
        return

    inverse = _inverse(warmth)
    chunks = tl.arange(0, SLOTS)
    here = chunks < num_chunks
    top = tl.load(tops + row * num_chunks + chunks, mask=here, other=NEVER)
    weight = tl.load(sums + row * num_chunks + chunks, mask=here, other=0.0)
    best = _finite(tl.max(top))
    span = best - tl.min(tl.where(here & (top != NEVER), top, best))
    total = tl.sum(weight * tl.exp((top - best) * inverse))
    if total != total:  # some logit is no number: there is nothing to search for
        tl.store(least + row, float("nan"))
        return
    high = _ordered(best) + 1
    bottom = tl.full([], BOTTOM, tl.int64)
    floor = best + tl.log(tl.maximum(ratio, 1e-30)) / inverse
    floor = tl.where(ratio > 0, _ordered(tl.minimum(floor, best)), bottom)

    # One search for the k-th token, then one above it for the share p of what is left: as a loop,
    # so that the code is there once.
    low = bottom
    for turn in range(2):
        counting = turn == 0
        if tl.where(counting, has_k, p < 1):
            goal = tl.where(counting, k.to(tl.float32), tl.where(has_k, -1.0, p * total))
            if counting:
                if k <= num_chunks:  # k chunks hold at least k tokens from the k-th maximum on
                    low = _settle(top, here.to(tl.float32), goal, bottom, high, 0.0)
            elif not has_k:
                # Tokens this light weigh less than 1-p together. Half of that: rounding must not
                # put the bound one token too high.
                light = tl.log(tl.maximum((1 - p) * total / vocab, 1e-30) * 0.5)
                low = tl.maximum(floor, _ordered(tl.minimum(best + light / inverse, best)))
            chunk_list = lists + row * SLOTS
            count = _active(top, here, low, chunk_list, SLOTS)
            low = _find(
                logits + row * stride, chunk_list, count, heads + row * ROOM,
                goal, p, counting, low, high, span, best, inverse,
                vocab, SOFTCAP, ROOM, LANES, WIDTH, SIZE,
            )  # fmt: skip
    low = tl.minimum(tl.maximum(low, floor), high - 1)
    tl.store(least + row, _float(low))
