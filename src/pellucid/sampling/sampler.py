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
from dataclasses import dataclass
from typing import Protocol

import torch

from pellucid.request import Row, TokenLogprob
from pellucid.sampling.processors import (
    add_bias,
    forbid_early_end,
    is_penalized,
    penalize,
    truncate,
)

_MASK = 2**64 - 1


class Draw(Protocol):
    """How a token is drawn from logits, by the rows' temperature, top-k, top-p, min-p and seed."""

    def __call__(self, logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
        """logits [rows, vocab] → int64 [rows]. Every row has a temperature above 0."""


class Sampler:
    """Chooses the next token of each row. Stateless but for the model's end tokens."""

    def __init__(self, eos_token_ids: tuple[int, ...], draw: Draw | None = None) -> None:
        self._eos = eos_token_ids
        self._draw = draw or draw_by_inversion

    def sample(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[TokenLogprob]:
        """logits [rows, vocab] of each row's last token → its next token."""
        return self.launch(logits, rows).read()

    def launch(self, logits: torch.Tensor, rows: Sequence[Row]) -> Choice:
        """The same, not waited for: on a GPU nothing here needs the host to stop."""
        logits = logits.float()
        scored = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
        raw = torch.log_softmax(logits[scored], dim=-1) if scored else None
        tokens = self._choose(logits, rows)
        if raw is None:
            return Choice(tokens, [], None)
        wanted = [rows[i].params.logprobs or 0 for i in scored]
        return Choice(tokens, scored, score(raw, tokens[scored], wanted))

    def is_plain(self, row: Row) -> bool:
        """Whether nothing but its temperature decides the row's token, and nobody wants scores."""
        p = row.params
        return (
            not (p.top_k or p.min_p or p.logit_bias or is_penalized(row))
            and p.top_p == 1
            and p.logprobs is None
            and row.end - row.num_prompt >= p.min_tokens
        )

    def _choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
        forbid_early_end(logits, rows, self._eos)
        penalize(logits, rows)
        add_bias(logits, rows)
        drawn = [i for i, row in enumerate(rows) if row.params.temperature > 0]
        if len(drawn) == len(rows):
            return self._draw(logits, rows)
        tokens = torch.argmax(logits, dim=-1)
        if drawn:
            tokens[drawn] = self._draw(logits[drawn], [rows[i] for i in drawn])
        return tokens


def draw_by_inversion(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """One token per row from its truncated distribution, int64 [rows]."""
    temperature = torch.tensor([r.params.temperature for r in rows], device=logits.device)
    # Shifted first: a tiny temperature must not turn the best logit into an infinity.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature[:, None]
    cumulative = truncate(logits, rows).double().cumsum(dim=-1)
    draws = [uniform(row.seed, row.end) for row in rows]
    u = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None]
    # Scaled by the actual sum, so that rounding can never point past the last possible token.
    return torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)[:, 0]


@dataclass(frozen=True, slots=True)
class Choice:
    """Chosen tokens, still on the device, int64 [rows]; and scores of the rows that want them."""

    tokens: torch.Tensor
    scored: list[int]
    scores: Scores | None

    def read(self, tokens: list[int] | None = None) -> list[TokenLogprob]:
        """The tokens as the host's records; waits for the device. `tokens`: if read already."""
        tokens = self.tokens.tolist() if tokens is None else tokens
        chosen = [TokenLogprob(token, float("nan")) for token in tokens]
        if self.scores is not None:
            for i, entry in zip(self.scored, self.scores.read(), strict=True):
                chosen[i] = entry
        return chosen


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of some tokens and the best others, still on the device."""

    targets: torch.Tensor
    own: torch.Tensor
    best: tuple[torch.Tensor, torch.Tensor]
    num_top: Sequence[int]

    def read(self) -> list[TokenLogprob]:
        own, targets = self.own.tolist(), self.targets.tolist()
        values, tokens = (t.tolist() for t in self.best)
        return [
            TokenLogprob(target, value, list(zip(tokens[i][:k], values[i][:k], strict=True)))
            for i, (target, value, k) in enumerate(zip(targets, own, self.num_top, strict=True))
        ]


def score(logprobs: torch.Tensor, targets: torch.Tensor, num_top: Sequence[int]) -> Scores:
    """The targets' log-probabilities and each row's `num_top` best.

    logprobs [rows, vocab]; targets int64 [rows].
    """
    own = logprobs.gather(1, targets[:, None])[:, 0]
    most = min(max(num_top, default=0), logprobs.shape[1])
    values, tokens = torch.topk(logprobs, most, dim=-1)
    return Scores(targets, own, (values, tokens), num_top)


def key(seed: int, position: int) -> int:
    """64 bits, signed, that depend on nothing else: what a counter-based generator starts from."""
    bits = _mix(_mix(seed & _MASK) ^ (position + 1))
    return bits - (bits >> 63 << 64)


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
