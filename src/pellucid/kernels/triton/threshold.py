"""Where top-k, top-p and min-p cut: the smallest logit that each row keeps.

A sort finds it by putting 152,000 numbers in order, of which twenty are wanted. Here the value is
searched for, as Floyd and Rivest select: a sample says about where it lies, one pass over the row
takes out what lies there, and the answer is found among the few thousand values taken out.

    1. `_aim`, a program per row, looks for low and high with low ≤ threshold < high. If top-k is no
       more than the number of chunks, `low` is the k-th largest of their maxima, for k chunks hold
       k such tokens. Else 4,096 logits, taken evenly, stand for the row. For top-p 0.95 of a flat
       row the threshold that they give is right to within 61 of them, which stand for 2,300 of
       152,000 tokens; low and high lie that far to either side. `high` is above all, where all
       that lies from `low` on can be taken out.
    2. `_collect`, a program per few chunks, writes the values in [low, high) next to each other,
       each with its weight, and sums what lies above. Chunks whose maximum is below `low` are not
       read.
    3. `_finish`, a program per row, bisects these values on the 32 bits of the float as an ordered
       integer: some 20 halvings end at one value, exactly.

A sample is no proof, so `_finish` adds up what was found. Where the goal lies outside [low, high),
or more values are inside than there is room for (thousands of equal ones), it bisects the row
itself, a pass for each bit: slow, seldom, and right. The result depends on the row alone: floats
are summed in an order that the vocabulary's size fixes, and the values taken out, whose order is by
chance, as integers of 2⁻⁴⁰.

Tokens tied with the last one kept are all kept. Sources: Floyd and Rivest 1975, Algorithm 489,
doi:10.1145/360680.360694; for searches on a GPU Alabi et al. 2012, doi:10.1145/2133803.2345676, and
FlashInfer, Ye et al. 2025, arXiv:2501.01005.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from pellucid.kernels.triton.chunks import (
    CHUNK,
    GROUP,
    NEVER,
    buffers,
    check,
    finite,
    inverse_of,
    read,
    slots,
    weigh_rows,
)

_THREADS = 512
"""Threads of a row's `_finish`."""
_ROOM = 16384
"""Values of a row that can be taken out."""
_HELD = 16
"""Of these, how many a thread of `_finish` holds in registers."""
_SAMPLE = 4096
"""Logits that stand for the row."""
_BINS = 512
"""Bins in which the sample is counted."""
_WORKERS = 256
"""Threads of the other programs."""


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

    -inf where nothing truncates, which includes greedy rows; NaN where a logit is no number.
    """
    check(logits, (temperature, torch.float32))
    tops, sums = buffers(logits)
    weigh_rows(logits, temperature, None, tops, sums, softcap)
    return search_rows(logits, temperature, top_k, top_p, min_p, tops, sums, softcap)


def search_rows(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    tops: torch.Tensor,
    sums: torch.Tensor,
    softcap: float,
) -> torch.Tensor:
    """`least_kept`, given the chunks' maxima and sums."""
    check(logits, (top_k, torch.int32), (top_p, torch.float32), (min_p, torch.float32))
    (rows, vocab), num_chunks = logits.shape, tops.shape[1]
    least = torch.empty_like(temperature)
    if rows == 0:
        return least
    groups = triton.cdiv(num_chunks, GROUP)
    limits = (temperature, top_k, top_p, min_p)
    bounds = logits.new_empty((rows, 3), dtype=torch.int64)
    goals = logits.new_empty((rows, 2), dtype=torch.float32)
    found = logits.new_empty(rows, dtype=torch.int32)
    above = logits.new_empty((rows, groups), dtype=torch.float32)
    values = logits.new_empty((rows, _ROOM), dtype=torch.float32)

    _aim[(rows,)](
        logits, logits.stride(0), *limits, tops, sums, bounds, goals, found, least,
        vocab, num_chunks,
        SOFTCAP=softcap, SLOTS=slots(num_chunks), ROOM=_ROOM, SAMPLE=_SAMPLE, BINS=_BINS,
        num_warps=_WORKERS // 32,
    )  # fmt: skip
    _collect[(rows * groups,)](
        logits, logits.stride(0), temperature, top_k, tops, bounds, goals, found, above, values,
        vocab, num_chunks,
        SOFTCAP=softcap, GROUP=GROUP, ROOM=_ROOM, SIZE=CHUNK, LANES=min(_WORKERS, GROUP * CHUNK),
        num_warps=_WORKERS // 32, maxnreg=64,  # more programs at once hide their loads
    )  # fmt: skip
    _finish[(rows,)](
        logits, logits.stride(0), *limits, bounds, goals, found, above, values, least,
        vocab, groups,
        SOFTCAP=softcap, GROUPS=triton.next_power_of_2(groups), ROOM=_ROOM, LANES=_THREADS,
        HELD=_HELD,
        num_warps=_THREADS // 32,
    )  # fmt: skip
    return least


BOTTOM = tl.constexpr(-0x7F800001)
"""-inf as an ordered integer."""
UNIT = tl.constexpr(1099511627776.0)
"""2^40: the weight 1 as an integer. Weights are at most 1, so a row's sum fits in 63 bits."""
IDLE = tl.constexpr(-1.0)
"""The goal of a row that nothing needs to be searched for."""


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
def _counts(k, vocab):
    """Whether top-k cuts anything off: the first search counts tokens then."""
    return (k > 0) & (k <= vocab)


@triton.jit
def _floor(ratio, best, inverse):
    """min-p's threshold as an ordered integer."""
    floor = best + tl.log(tl.maximum(ratio, 1e-30)) / inverse
    return tl.where(ratio > 0, _ordered(tl.minimum(floor, best)), tl.full([], BOTTOM, tl.int64))


@triton.jit
def _weights(x, best, inverse, counting):
    """1 each when counting, else exp of what lies between the logit and the best."""
    return tl.where(counting, 1.0, tl.exp((x - best) * inverse))


@triton.jit
def _units(x, best, inverse, counting):
    """The weights in units of 2^-40: sums of integers are the same in any order. 0 for NaN."""
    weights = tl.where(x == x, _weights(x, best, inverse, counting), 0.0)
    return (weights * UNIT).to(tl.int64)


@triton.jit
def _kth_largest(values, here, k, low, high):
    """The last threshold in [low, high) that k of the values reach, of those that are `here`."""
    while high - low > 1:
        middle = low + ((high - low) >> 1)
        enough = tl.sum((here & (values >= _float(middle))).to(tl.int32)) >= k
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    return low


# --- where to look --------------------------------------------------------------------------------


@triton.jit
def _aim(
    logits, stride, temperature, top_ks, top_ps, min_ps, tops, sums, bounds, goals, found, least,
    vocab, num_chunks,
    SOFTCAP: tl.constexpr, SLOTS: tl.constexpr, ROOM: tl.constexpr, SAMPLE: tl.constexpr,
    BINS: tl.constexpr,
):  # fmt: skip
    """Between which values a row's first threshold is to be looked for, and what must lie above it.

    Writes bounds[row] (low, high, and the smallest threshold possible, as ordered integers),
    goals[row] (the goal, and the largest logit), 0 to `found`; and `least`, the result of a row
    without a search.
    """
    row = tl.program_id(0).to(tl.int64)
    warmth = tl.load(temperature + row)
    k = tl.load(top_ks + row)
    p = tl.load(top_ps + row)
    ratio = tl.load(min_ps + row)
    has_k = _counts(k, vocab)
    tl.store(goals + row * 2, IDLE)
    tl.store(least + row, NEVER)
    if (warmth <= 0) | ~(has_k | (p < 1) | (ratio > 0)):
        return

    inverse = inverse_of(warmth)
    chunks = tl.arange(0, SLOTS)
    here = chunks < num_chunks
    top = tl.load(tops + row * num_chunks + chunks, mask=here, other=NEVER)
    weight = tl.load(sums + row * num_chunks + chunks, mask=here, other=0.0)
    best = finite(tl.max(top))
    total = tl.sum(weight * tl.exp((top - best) * inverse))
    if total != total:  # some logit is no number: there is nothing to search for
        tl.store(least + row, float("nan"))
        return
    floor = _floor(ratio, best, inverse)
    if ~(has_k | (p < 1)):
        tl.store(least + row, _float(floor))
        return

    bottom = tl.full([], BOTTOM, tl.int64)
    if ~has_k:
        # Tokens this light weigh less than 1-p together. Half of that: rounding must not put the
        # bound one token too high.
        light = tl.log(tl.maximum((1 - p) * total / vocab, 1e-30) * 0.5)
        bottom = tl.maximum(floor, _ordered(tl.minimum(best + light / inverse, best)))
    low = bottom
    high = _ordered(best) + 1
    if has_k & (k <= num_chunks):
        smallest = _ordered(tl.min(tl.where(here, top, best)))
        low = _kth_largest(top, here, k, smallest, high)
    elif vocab > ROOM:
        low, high = _bracket(
            logits + row * stride, k, has_k, p, total, best, inverse, low, high, vocab,
            SOFTCAP, ROOM, SAMPLE, BINS,
        )  # fmt: skip
    tl.store(bounds + row * 3, low)
    tl.store(bounds + row * 3 + 1, high)
    tl.store(bounds + row * 3 + 2, bottom)
    tl.store(goals + row * 2, tl.where(has_k, k.to(tl.float32), p * total))
    tl.store(goals + row * 2 + 1, best)
    tl.store(found + row, 0)


@triton.jit
def _bracket(
    row_logits, k, has_k, p, total, best, inverse, low, high, vocab,
    SOFTCAP: tl.constexpr, ROOM: tl.constexpr, SAMPLE: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    """low and high moved towards each other, to where a sample says that the threshold lies.

    The sample's values are counted in bins of equal width. Ranks are counted in the sample from the
    top, and each stands for vocab / SAMPLE tokens. What the tokens below the threshold weigh is
    measured better than what those above it do: none of them is heavier than the threshold's own.
    So that is what the sample is asked for, and the error of it (four standard deviations of a sum
    of so many weights), in units of the heaviest, is the error of the rank.
    """
    place = tl.arange(0, SAMPLE)
    # Four neighbours share a sector of memory.
    column = place // 4 * (vocab // (SAMPLE // 4)) + place % 4
    x = read(row_logits + column, column < vocab, NEVER, SOFTCAP)
    start = tl.maximum(_float(low), tl.min(tl.where(x == NEVER, best, x)))
    width = tl.maximum((tl.maximum(tl.max(x), start) - start) / (BINS - 2), 1e-30)
    # Bin 0 is for all that is below the start.
    bin_of = tl.where(x < start, 0, ((tl.maximum(x, start) - start) / width).to(tl.int32) + 1)
    numbers = tl.histogram(tl.minimum(bin_of, BINS - 1), BINS).to(tl.float32)
    bins = tl.arange(0, BINS)
    edges = tl.where(bins == 0, NEVER, start + (bins - 1).to(tl.float32) * width)
    from_here = SAMPLE - tl.cumsum(numbers, axis=0) + numbers  # values in this bin or above

    scale = vocab.to(tl.float32) / SAMPLE
    rank = k.to(tl.float32) / scale
    error = tl.sqrt(rank)
    if ~has_k:
        weights = tl.exp((edges + 0.5 * width - best) * inverse)
        lightest = tl.sum(tl.where(x < start, tl.exp((x - best) * inverse), 0.0))
        masses = tl.where(bins == 0, lightest, numbers * weights)
        below = tl.cumsum(masses, axis=0) - masses
        at = tl.max(tl.where(below * scale <= (1 - p) * total, bins, 0))
        heaviest = tl.maximum(tl.max(tl.where(bins == at, weights, 0.0)), 1e-30)
        parts = tl.where(bins < at, weights / heaviest, 0.0)
        rank = tl.max(tl.where(bins == at, from_here, 0.0))
        error = tl.sqrt(tl.sum(numbers * parts * parts))
    error = tl.minimum(4 * error + 4, 0.45 * ROOM / scale)
    low = tl.maximum(low, _ordered(tl.max(tl.where(from_here >= rank + error, edges, NEVER))))
    if (rank + 2 * error) * scale > ROOM:  # not all that lies from low on can be held
        highest = tl.min(tl.where(from_here < rank - error, edges, float("inf")))
        high = tl.minimum(tl.maximum(_ordered(highest), low + 1), high)
    return low, high


# --- what lies there ------------------------------------------------------------------------------


@triton.jit
def _collect(
    logits, stride, temperature, top_ks, tops, bounds, goals, found, above, values,
    vocab, num_chunks,
    SOFTCAP: tl.constexpr, GROUP: tl.constexpr, ROOM: tl.constexpr, SIZE: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """A few chunks' values in [low, high), in any order, and what lies from `high` on.

    `found` counts the values; those beyond ROOM are not written.
    """
    groups = tl.cdiv(num_chunks, GROUP)
    row = (tl.program_id(0) // groups).to(tl.int64)
    group = tl.program_id(0) % groups
    if tl.load(goals + row * 2) == IDLE:
        return
    low = _float(tl.load(bounds + row * 3))
    last = _float(tl.load(bounds + row * 3 + 1) - 1)  # the largest below high
    chunk = group * GROUP + tl.arange(0, GROUP)
    top = tl.load(tops + row * num_chunks + chunk, mask=chunk < num_chunks, other=NEVER)
    largest = tl.max(top)
    if largest < low:
        tl.store(above + row * groups + group, 0.0)
        return

    NUM: tl.constexpr = GROUP * SIZE // LANES
    lane = tl.arange(0, LANES)
    parts = ()
    number = tl.zeros([LANES], dtype=tl.int32)
    for i in tl.static_range(NUM):
        column = group * (GROUP * SIZE) + i * LANES + lane
        x = read(logits + row * stride + column, column < vocab, float("nan"), SOFTCAP)
        parts += (x,)  # type: ignore[assignment]
        number += ((x >= low) & (x <= last)).to(tl.int32)
    over = 0.0
    if largest > last:
        best = tl.load(goals + row * 2 + 1)
        inverse = inverse_of(tl.load(temperature + row))
        counting = _counts(tl.load(top_ks + row), vocab)
        weights = tl.zeros([LANES], dtype=tl.float32)
        for i in tl.static_range(NUM):
            weight = _weights(parts[i], best, inverse, counting)
            weights += tl.where(parts[i] > last, weight, 0.0)
        over = tl.sum(weights)
    tl.store(above + row * groups + group, over)

    before = tl.cumsum(number, axis=0)
    total = tl.max(before)
    if total > 0:
        place = tl.atomic_add(found + row, total) + before - number
        for i in tl.static_range(NUM):
            inside = (parts[i] >= low) & (parts[i] <= last)
            tl.store(values + row * ROOM + place, parts[i], mask=inside & (place < ROOM))
            place += inside.to(tl.int32)


# --- which of them it is --------------------------------------------------------------------------


@triton.jit
def _finish(
    logits, stride, temperature, top_ks, top_ps, min_ps, bounds, goals, found, above, values, least,
    vocab, groups,
    SOFTCAP: tl.constexpr, GROUPS: tl.constexpr, ROOM: tl.constexpr, LANES: tl.constexpr,
    HELD: tl.constexpr,
):  # fmt: skip
    """The smallest logit kept: the k-th token, then from there on the share p of what is left."""
    row = tl.program_id(0).to(tl.int64)
    goal = tl.load(goals + row * 2)
    if goal == IDLE:
        return
    best = tl.load(goals + row * 2 + 1)
    inverse = inverse_of(tl.load(temperature + row))
    p = tl.load(top_ps + row)
    has_k = _counts(tl.load(top_ks + row), vocab)
    low = tl.load(bounds + row * 3)
    high = tl.load(bounds + row * 3 + 1)
    bottom = tl.load(bounds + row * 3 + 2)
    end = _ordered(best) + 1
    group = tl.arange(0, GROUPS)
    over = tl.sum(tl.load(above + row * groups + group, mask=group < groups, other=0.0))
    number = tl.load(found + row)
    logits += row * stride
    values += row * ROOM

    goal_units = (goal * UNIT).to(tl.int64)
    missing = ((goal - over) * UNIT).to(tl.int64)
    is_found = False
    FEW: tl.constexpr = (HELD + 7) // 8
    if number <= FEW * LANES:  # the rule on a real model's logits
        low, is_found = _search_registers(
            values, number, missing, p, has_k, best, inverse, low, high, bottom, FEW, LANES
        )
    elif number <= HELD * LANES:
        low, is_found = _search_registers(
            values, number, missing, p, has_k, best, inverse, low, high, bottom, HELD, LANES
        )
    elif number <= ROOM:
        is_found = missing > 0
        if is_found & (low > bottom):
            reached = _weight(values, number, NEVER, best, inverse, has_k, 0.0, LANES)
            is_found = reached >= missing
        if is_found:
            low = _bisect(values, number, missing, low, high, best, inverse, has_k, 0.0, LANES)
    if ~is_found:
        low = _bisect(logits, vocab, goal_units, bottom, end, best, inverse, has_k, SOFTCAP, LANES)
    if has_k & (p < 1) & ~(is_found & (number <= HELD * LANES) & (high == end)):
        left = _weight(logits, vocab, _float(low), best, inverse, False, SOFTCAP, LANES)
        part = (p.to(tl.float64) * left.to(tl.float64)).to(tl.int64)
        low = _bisect(logits, vocab, part, low, end, best, inverse, False, SOFTCAP, LANES)
    low = tl.maximum(low, _floor(tl.load(min_ps + row), best, inverse))
    tl.store(least + row, _float(tl.minimum(low, _ordered(best))))


@triton.jit
def _search_registers(
    values, number, missing, p, has_k, best, inverse, low, high, bottom,
    NUM: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The threshold among `number` values, NUM for each thread; and whether it is among them.

    If all tokens that top-k keeps are, it is top-p's threshold above top-k's.
    """
    held = ()
    for i in tl.static_range(NUM):
        place = i * LANES + tl.arange(0, LANES)
        x = tl.load(values + place, mask=place < number, other=float("nan"))
        held += (x,)  # type: ignore[assignment]
    units = _units_of(held, best, inverse, has_k, NUM)
    is_found = missing > 0
    if is_found & (low > bottom):
        is_found = _held_weight(held, units, NEVER, NUM) >= missing
    if is_found:
        low = _bisect_held(held, units, missing, low, high, NUM)
        end = _ordered(best) + 1
        if has_k & (p < 1) & (high == end):
            units = _units_of(held, best, inverse, False, NUM)
            left = _held_weight(held, units, _float(low), NUM)
            part = (p.to(tl.float64) * left.to(tl.float64)).to(tl.int64)
            low = _bisect_held(held, units, part, low, end, NUM)
    return low, is_found


@triton.jit
def _units_of(held, best, inverse, counting, NUM: tl.constexpr):
    """The weights of the values in units of 2^-40."""
    units = ()
    for i in tl.static_range(NUM):
        units += (_units(held[i], best, inverse, counting),)  # type: ignore[assignment]
    return units


@triton.jit
def _bisect_held(held, units, goal, low, high, NUM: tl.constexpr):
    """The last threshold in [low, high) from which on the values weigh as much as the goal; `low`,
    if there is none."""
    while high - low > 1:
        middle = low + ((high - low) >> 1)
        enough = _held_weight(held, units, _float(middle), NUM) >= goal
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    return low


@triton.jit
def _held_weight(held, units, threshold, NUM: tl.constexpr):
    """Number or weight of the values in registers from `threshold` on, int64."""
    total = tl.zeros_like(units[0])
    for i in tl.static_range(NUM):
        total += tl.where(held[i] >= threshold, units[i], 0)
    return tl.sum(total)


@triton.jit
def _bisect(values, number, goal, low, high, best, inverse, counting, SOFTCAP, LANES: tl.constexpr):
    """As `_bisect_held`, of values in memory."""
    while high - low > 1:
        middle = low + ((high - low) >> 1)
        mass = _weight(values, number, _float(middle), best, inverse, counting, SOFTCAP, LANES)
        low = tl.where(mass >= goal, middle, low)
        high = tl.where(mass >= goal, high, middle)
    return low


@triton.jit
def _weight(values, number, threshold, best, inverse, counting, SOFTCAP, LANES: tl.constexpr):
    """Number (counting) or weight of values in memory from `threshold` on, int64."""
    SIZE: tl.constexpr = 8 * LANES  # so that a thread waits for eight numbers at once
    total = tl.zeros([SIZE], dtype=tl.int64)
    for begin in range(0, number, SIZE):
        place = begin + tl.arange(0, SIZE)
        x = read(values + place, place < number, float("nan"), SOFTCAP)
        total += tl.where(x >= threshold, _units(x, best, inverse, counting), 0)
    return tl.sum(total)
