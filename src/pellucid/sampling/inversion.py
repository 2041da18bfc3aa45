"""Drawing in torch: sort, and invert the cumulative distribution. The off form of `sampler`.

Greedy rows take the most likely token. The others are sampled by inverting the cumulative
distribution at one uniform number per row:

    token = the first one whose cumulative probability exceeds u

Nothing here asks a GPU anything, so that it can be part of a graph as well. On a CPU, where asking
costs nothing, rows are left out of what they do not need, and the head of the distribution is
looked at before all of the vocabulary is sorted.

A row's token and scores are the same, to the bit, whatever other rows there are: every operation is
either one number at a time or goes through a row by itself (softmax, cumsum), and a row that is not
truncated comes out of `truncate` as it went in. torch's `sum` and `logsumexp` are not of that kind:
on several threads they add up one row of a large vocabulary in another order than two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.kernels.columns import Column
from pellucid.kernels.reference.adjust import adjust
from pellucid.sampling.sampler import Rows, no_token

_NO_K = 2**30
_HEAD = 1024
"""Candidates looked at before the whole vocabulary is sorted."""


class Inversion:
    """`sampler.Method` in torch, on any device."""

    adjust = staticmethod(adjust)

    def draw(self, logits: Tensor, rows: Rows, truncated: bool) -> Tensor:
        tokens = most_likely(logits)
        top = logits.gather(1, tokens[:, None])[:, 0]
        temperature = rows.floats(Column.TEMPERATURE)
        drawn = _where(temperature > 0)
        if isinstance(drawn, slice) or len(drawn):
            columns = (Column.TOP_P, Column.MIN_P)
            limits = (rows.settings[Column.TOP_K], *(rows.floats(column) for column in columns))
            tokens[drawn] = torch.where(
                temperature[drawn] > 0,
                draw_by_inversion(
                    logits[drawn],
                    temperature[drawn],
                    rows.keys[drawn],
                    tuple(limit[drawn] for limit in limits) if truncated else None,
                ),
                tokens[drawn],
            )
        return no_token(top, tokens)

    def best(self, logits: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
        return log_totals(logits), *largest(logits, num_top)


def most_likely(logits: Tensor) -> Tensor:
    """The first token with the largest logit of each row, or with one that is no number: int64 [R].

    On a CPU by numpy: 5 µs for a row of 49,152, where torch takes 90.
    """
    if logits.device.type != "cpu":
        return torch.argmax(logits, dim=-1)
    return torch.from_numpy(logits.numpy().argmax(axis=-1))


def log_totals(logits: Tensor) -> Tensor:
    """log Σ exp of each row, [R]. On a CPU a row at a time, which is faster too: it stays in the
    cache from one pass to the next."""
    if logits.device.type != "cpu":
        return torch.logsumexp(logits, dim=-1)
    return torch.stack([torch.logsumexp(row, dim=-1) for row in logits])


def largest(logits: Tensor, num_top: int) -> tuple[Tensor, Tensor]:
    """The `num_top` largest logits of each row and their tokens, of equal ones the first tokens.

    Which of several equal ones torch takes, and in what order, depends on how many are asked for,
    and that is settled for all rows together. So rows that have some are sorted by logit and token
    at once: a float32 leaves 29 bits of a float64 free.
    """
    vocab = logits.shape[1]
    values, tokens = torch.topk(logits, min(num_top + 1, vocab), dim=-1)
    tied = _where((values[:, 1:] == values[:, :-1]).any(dim=-1))
    some, token = logits[tied], torch.arange(vocab, device=logits.device)
    low = torch.where(some < 0, token, vocab - 1 - token)
    keys = (some.double().view(torch.int64) | low).view(torch.float64)
    tokens[tied] = torch.topk(keys, tokens.shape[1], dim=-1).indices
    tokens = tokens[:, :num_top]
    return logits.gather(1, tokens), tokens


Limits = tuple[Tensor, ...]
"""top_k int32 [R], top_p and min_p float32 [R]."""


def draw_by_inversion(
    logits: Tensor, temperature: Tensor, keys: Tensor, limits: Limits | None
) -> Tensor:
    """One token per row from its truncated distribution, int64 [R]."""
    # Shifted first: a tiny temperature must not turn the best logit into an infinity.
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    scaled = shifted / torch.where(temperature > 0, temperature, 1.0)[:, None]
    probs = torch.softmax(scaled, dim=-1) if limits is None else truncate(scaled, limits)
    cumulative = probs.double().cumsum(dim=-1)
    u = uniform(keys)[:, None]
    # Scaled by the actual sum, so that rounding can never point past the last possible token.
    return torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)[:, 0]


def uniform(keys: Tensor) -> Tensor:
    """A number in [0, 1) of the upper 53 bits of each key, float64."""
    return ((keys >> 11) & (1 << 53) - 1).double() * 2.0**-53


def truncate(logits: Tensor, limits: Limits) -> Tensor:
    """top-k, then top-p of what is left, then min-p: tokens outside get probability 0.

    logits [R, V], already divided by temperature; returns the probabilities of the tokens kept as
    they were among all, float32 [R, V]: to scale them up to a sum of 1 is left to whoever needs it.
    Rows that only use min-p are not sorted.
    Sources: top-p, Holtzman et al. 2019, arXiv:1904.09751; min-p, Nguyen et al. 2024,
    arXiv:2407.01082.
    """
    top_k, top_p, min_p = limits
    probs = torch.softmax(logits, dim=-1)
    ordered = _where((top_k > 0) | (top_p < 1))
    if isinstance(ordered, slice) or len(ordered):
        probs[ordered] = _keep_head(probs[ordered], top_k[ordered], top_p[ordered])
    floor = min_p[:, None] * probs.amax(dim=-1, keepdim=True)
    return torch.where(probs < floor, 0.0, probs)


def _where(mask: Tensor) -> Tensor | slice:
    """The rows where `mask` [R] holds; on a GPU all, for the host must not wait to know."""
    return mask.nonzero()[:, 0] if mask.device.type == "cpu" else slice(None)


def _keep_head(probs: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the top-k / top-p head of each row. probs [R, V] sum to 1."""
    vocab = probs.shape[1]
    if probs.device.type != "cpu":
        return _keep_of(probs, top_k, top_p, vocab)[0]
    kept, complete = _keep_of(probs, top_k, top_p, min(_HEAD, vocab))
    rest = (~complete).nonzero()[:, 0]
    if len(rest):
        kept[rest] = _keep_of(probs[rest], top_k[rest], top_p[rest], vocab)[0]
    return kept


def _keep_of(probs: Tensor, top_k: Tensor, top_p: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The same from the `size` most likely tokens of each row; and whether these were enough.

    top-p counts in units of what top-k left: with k given, the head's own sum is 1.
    """
    top_k = torch.where((top_k <= 0) | (top_k > probs.shape[1]), _NO_K, top_k)[:, None]
    top_p = top_p[:, None]
    head, tokens = torch.topk(probs, size, dim=-1)
    rank = torch.arange(size, device=probs.device)
    inside = rank < top_k
    kept = torch.where(inside, head, 0.0).double()
    cumulative = kept.cumsum(dim=-1)
    before, all_kept = cumulative - kept, cumulative[:, -1:]
    total = torch.where(top_k < _NO_K, all_kept, 1.0)
    keep = inside & ((before < top_p * total) | (rank == 0))
    out = torch.zeros_like(probs).scatter_(1, tokens, torch.where(keep, head, 0.0))
    complete = torch.where(top_k < _NO_K, top_k <= size, all_kept >= top_p) | (
        size == probs.shape[1]
    )
    return out, complete[:, 0]
