"""Slow twins of `sample.py` and `threshold.py`: the same random bits, the same tokens, in float64
where it matters.

Philox is written out in torch's 64-bit integers, and the threshold of a truncation is found by
sorting.
"""

from __future__ import annotations

import torch

from pellucid.kernels.triton.chunks import CHUNK

_LOW = 2**32 - 1
_NEVER = float("-inf")


def philox(keys: torch.Tensor, counters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first two words of Philox4x32-10 (Salmon et al. 2011), as int64 in [0, 2^32).

    keys and counters int64, of shapes that broadcast.
    """
    keys, counters = torch.broadcast_tensors(keys, counters)
    k0, k1 = keys & _LOW, keys >> 32 & _LOW
    c0, c1 = counters & _LOW, counters >> 32 & _LOW
    c2 = c3 = torch.zeros_like(c0)
    for _ in range(10):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high1, low1 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + 0x9E3779B9 & _LOW, k1 + 0xBB67AE85 & _LOW
    return c0, c1


def _multiply(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of a product of 32-bit numbers."""
    low = (a & 0xFFFF) * b
    high = (a >> 16) * b + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF


def gumbel(keys: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """-log E of each counter, float64."""
    high, low = philox(keys, counters)
    far = high >= 2**31
    high, low = torch.where(far, _LOW - high, high), torch.where(far, _LOW - low, low)
    d = high.double() * 2.0**-32 + (low.double() + 0.5) * 2.0**-64
    return -torch.log(torch.where(far, -torch.log(d), -torch.log1p(-d)))


def choose(
    logits: torch.Tensor, temperature: torch.Tensor, keys: torch.Tensor, *, softcap: float = 0.0
) -> torch.Tensor:
    """As `sample.choose`."""
    x = capped(logits, softcap)
    rows, vocab = x.shape
    size = min(CHUNK, vocab)
    padding = x.new_full((rows, -vocab % size), _NEVER)
    chunks = torch.cat((x, padding), dim=1).view(rows, -1, size)
    inverse = 1 / temperature.double().clamp(min=1e-30)[:, None]
    tops = chunks.amax(dim=-1)
    scaled = (chunks - _finite(tops)[..., None]) * inverse[..., None]
    totals = scaled.exp().sum(dim=-1).log() + (_finite(tops) - _finite(x.amax(-1, True))) * inverse
    index = torch.arange(tops.shape[1], device=x.device)
    drawn = torch.argmax(totals + gumbel(keys[:, None], index + 2**32), dim=-1)
    tokens = drawn[:, None] * size + torch.arange(size, device=x.device)
    inside = scaled[torch.arange(rows, device=x.device), drawn]
    best = torch.argmax(inside + gumbel(keys[:, None], tokens), dim=-1)
    tokens = torch.where(temperature > 0, drawn * size + best, torch.argmax(x, dim=-1))
    top = x.amax(dim=-1)
    tokens = torch.where(top == _NEVER, -2, tokens)
    return torch.where(top.isnan() | (top == -_NEVER), -1, tokens)


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
    """As `sample.choose_truncated`."""
    least = least_kept(logits, temperature, top_k, top_p, min_p, softcap=softcap)
    x = capped(logits, softcap)
    return choose(torch.where(x >= least[:, None], x, _NEVER), temperature, keys)


def least_kept(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    *,
    softcap: float = 0.0,
) -> torch.Tensor:
    """As `threshold.least_kept`, float64, by sorting."""
    x = capped(logits, softcap)
    vocab = x.shape[1]
    values = x.sort(dim=-1, descending=True).values
    scaled = (values - values[:, :1]) / temperature.double().clamp(min=1e-30)[:, None]
    weights = scaled.exp()
    k = torch.where((top_k <= 0) | (top_k > vocab), vocab, top_k.long())[:, None]
    kth = values.gather(1, k - 1)
    weights = torch.where(values >= kth, weights, 0.0)
    before = weights.cumsum(dim=-1) - weights
    share = top_p.double()[:, None] * weights.sum(dim=-1, keepdim=True)
    keep = (values >= kth) & (before < share) & (weights >= min_p.double()[:, None])
    keep[:, 0] = True
    least = torch.where(keep, values, float("inf")).amin(dim=-1)
    truncated = (temperature > 0) & ((k[:, 0] < vocab) | (top_p < 1) | (min_p > 0))
    return torch.where(truncated, least, _NEVER)


def capped(logits: torch.Tensor, softcap: float) -> torch.Tensor:
    """softcap · tanh(logits / softcap), or logits; float64."""
    x = logits.double()
    return softcap * torch.tanh(x / softcap) if softcap else x


def _finite(top: torch.Tensor) -> torch.Tensor:
    return torch.where(top == _NEVER, 0.0, top)
