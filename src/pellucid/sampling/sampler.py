"""From logits to tokens, for the whole batch at once.

Greedy rows take the most likely token. The others are sampled by inverting the cumulative
distribution at one uniform number per row:

    token = the first one whose cumulative probability exceeds u

The uniform number is a pure function of the sequence's seed and the position to fill. So the same
seed gives the same tokens whatever else is in the batch, in whatever order steps happen, and also
after a preemption; there is no generator whose state could be lost. What a row's neighbours are can
only matter through the last bits of its logits, since a matrix product may round differently for
another batch size.

Log-probabilities are those of the model itself: of the raw logits, before any sampling parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pellucid.request import Row, TokenLogprob
from pellucid.sampling.processors import add_bias, forbid_early_end, penalize, truncate

_MASK = 2**64 - 1


class Sampler:
    """Chooses the next token of each row. Stateless but for the model's end tokens."""

    def __init__(self, eos_token_ids: tuple[int, ...]) -> None:
        self._eos = eos_token_ids

    def sample(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[TokenLogprob]:
        """logits float32 [rows, vocab] of each row's last token → its next token."""
        scored = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
        raw = torch.log_softmax(logits[scored], dim=-1) if scored else None
        tokens = self._choose(logits, rows)
        chosen = [TokenLogprob(token, float("nan")) for token in tokens]
        if raw is not None:
            targets = [tokens[i] for i in scored]
            wanted = [rows[i].params.logprobs or 0 for i in scored]
            for i, entry in zip(scored, token_logprobs(raw, targets, wanted), strict=True):
                chosen[i] = entry
        return chosen

    def _choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
        forbid_early_end(logits, rows, self._eos)
        penalize(logits, rows)
        add_bias(logits, rows)
        tokens = torch.argmax(logits, dim=-1)
        drawn = [i for i, row in enumerate(rows) if row.params.temperature > 0]
        if drawn:
            tokens[drawn] = _draw(logits[drawn], [rows[i] for i in drawn])
        return [int(token) for token in tokens.tolist()]


def _draw(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """One token per row from its truncated distribution, int64 [rows]."""
    temperature = torch.tensor([r.params.temperature for r in rows], device=logits.device)
    # Shifted first: a tiny temperature must not turn the best logit into an infinity.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature[:, None]
    cumulative = truncate(logits, rows).double().cumsum(dim=-1)
    draws = [uniform(row.seed, len(row.history)) for row in rows]
    u = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None]
    # Scaled by the actual sum, so that rounding can never point past the last possible token.
    return torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)[:, 0]


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing else.

    Two rounds of SplitMix64's finalizer (Steele et al. 2014, doi:10.1145/2660193.2660195).
    """
    return (_mix(_mix(seed & _MASK) ^ (position + 1)) >> 11) * 2.0**-53


def _mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def token_logprobs(
    logprobs: torch.Tensor, targets: Sequence[int], num_top: Sequence[int]
) -> list[TokenLogprob]:
    """The targets' log-probabilities and each row's `num_top` best. logprobs: [rows, vocab]."""
    index = torch.tensor(targets, dtype=torch.int64, device=logprobs.device)[:, None]
    own = logprobs.gather(1, index)[:, 0].tolist()
    most = min(max(num_top, default=0), logprobs.shape[1])
    values, tokens = (t.tolist() for t in torch.topk(logprobs, most, dim=-1))
    return [
        TokenLogprob(target, value, list(zip(tokens[i][:k], values[i][:k], strict=True)))
        for i, (target, value, k) in enumerate(zip(targets, own, num_top, strict=True))
    ]
