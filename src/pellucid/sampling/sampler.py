"""From logits to tokens, for all rows of a step at once, without asking the host.

    logits ──adjust──▶ penalties, biases, forbidden tokens ──draw──▶ a token a row
       └──────────────────────score──────────────────────▶ log-probabilities, if somebody asks

A token is drawn by a number that is a pure function of the sequence's seed and the position to
fill. So from the same logits the same seed draws the same tokens whatever else is in the batch, in
whatever order steps happen, and also after a preemption; there is no generator whose state could be
lost. What a row's neighbours are can only matter through the last bits of its logits: a matrix
product may round differently for another number of rows, unless the engine's option
`batch_invariant` has it multiplied in one order always (`quant/strips.py`).

Log-probabilities are those of the model itself: of the raw logits, before any sampling parameter.

How much of this a step does is its `Draw`, which the host knows beforehand: a step whose rows only
have temperatures skips the rest. It is part of a padded step's shape, so a graph is never wrong
about it. The token of a row does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pellucid.kernels.columns import Column
from pellucid.kernels.reference.adjust import NEVER
from pellucid.request import SamplingParams, TokenLogprob, looks_back
from pellucid.sampling.state import SamplingState

NOT_FINITE, NOTHING = -1, -2
"""In place of a token: the logits hold NaN or infinity; no token is possible."""

WHY_NO_TOKEN = {
    NOT_FINITE: (
        "the model's logits are not finite (NaN or infinity): float16 may be too narrow for it, or "
        "its weights are damaged; take dtype bfloat16 or float32"
    ),
    NOTHING: "no token is possible: logit_bias or min_tokens with stop_token_ids forbid them all",
}

NO_SCORES = -1
_TOPS = (0, 8, 32, 128)
"""For how many best tokens a step looks: few values, so that few graphs are recorded."""


class Draw(NamedTuple):
    """What a step's rows ask of it, all together."""

    truncated: bool = False
    """Some row has top-k, top-p or min-p."""
    edited: bool = False
    """Some row's logits are changed first: penalties, biases, `min_tokens`."""
    num_top: int = NO_SCORES
    """Log-probabilities of the chosen and of so many best tokens; NO_SCORES: none."""


PLAIN, TRUNCATED = Draw(), Draw(truncated=True)
EVERYTHING = Draw(truncated=True, edited=True, num_top=8)


def draw_of(rows: Iterable[tuple[SamplingParams, int]]) -> Draw:
    """What rows ask for: their parameters, and how many tokens their answers have so far."""
    truncated, edited, most = False, False, NO_SCORES
    for params, num_output in rows:
        truncated = truncated or is_truncated(params)
        edited = edited or is_edited(params, num_output)
        if params.logprobs is not None:
            most = max(most, params.logprobs)
    num_top = next((top for top in _TOPS if most <= top), most) if most >= 0 else most
    return Draw(truncated, edited, num_top)


def is_truncated(params: SamplingParams) -> bool:
    """Whether unlikely tokens are left out."""
    return bool(params.top_k or params.min_p or params.top_p < 1)


def is_edited(params: SamplingParams, num_output: int) -> bool:
    """Whether the row's logits are changed before its next token is drawn."""
    return bool(params.logit_bias or num_output < params.min_tokens or looks_back(params))


class Rows(NamedTuple):
    """R rows from whose logits a token is drawn."""

    places: Tensor
    """int64 [R], in the `SamplingState`"""
    tokens: Tensor
    """int64 [R], the last token of each"""
    positions: Tensor
    """int64 [R], that token's position"""
    keys: Tensor
    """int64 [R], see `kernels.rows.draw_keys`"""
    settings: Tensor
    """int32 [NUM_COLUMNS, R]"""

    def floats(self, column: Column) -> Tensor:
        """A column of numbers that are floats, float32 [R]."""
        return self.settings[column].view(torch.float32)


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of N tokens and of the best others, on the device."""

    own: Tensor
    """float32 [N]"""
    values: Tensor
    """float32 [N, num_top]"""
    tokens: Tensor
    """int64 [N, num_top]"""


class Drawn(NamedTuple):
    """Chosen tokens, int64 [R], on the device; `NOT_FINITE` or `NOTHING` where there is none."""

    tokens: Tensor
    scores: Scores | None


Adjust = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], None]
"""Arguments as of `kernels.reference.adjust.adjust`."""


class Method(Protocol):
    """How it is done: in torch (inversion.py), or by kernels of our own (pivot.py)."""

    @property
    def adjust(self) -> Adjust:
        """Penalties, biases, forbidden tokens, in place."""

    def draw(self, logits: Tensor, rows: Rows, truncated: bool) -> Tensor:
        """A token a row, int64 [R]. Without `truncated`, top-k, top-p and min-p are not asked
        for."""

    def best(self, logits: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
        """log Σ exp of each row [R], and its `num_top` largest logits [R, num_top] with tokens."""


class Sampler:
    """Draws tokens by some method, from what it keeps of each sequence."""

    def __init__(self, method: Method, state: SamplingState) -> None:
        self.state = state
        self._method = method

    def draw(
        self, logits: Tensor, rows: Rows, draw: Draw, scored: Sequence[int] | None = None
    ) -> Drawn:
        """A token for each row. logits float32 [R, V] may be changed.

        Scores are those of the rows `scored`, or of all.
        """
        raw = logits
        if draw.num_top != NO_SCORES:
            if scored is not None:
                raw = logits[list(scored)]
            elif draw.edited:
                raw = logits.clone()
        if draw.edited:
            self.adjust(logits, rows)
        tokens = self._method.draw(logits, rows, draw.truncated)
        if draw.num_top == NO_SCORES:
            return Drawn(tokens, None)
        chosen = tokens if scored is None else tokens[list(scored)]
        return Drawn(tokens, self.score(raw, chosen, draw.num_top))

    def adjust(self, logits: Tensor, rows: Rows) -> None:
        """Apply penalties, biases and forbidden tokens to logits float32 [R, V], in place."""
        state = self.state
        self._method.adjust(
            logits,
            rows.places,
            rows.tokens,
            rows.positions,
            rows.settings,
            state.counts,
            state.edit_tokens,
            state.edit_values,
        )

    def score(self, logits: Tensor, tokens: Tensor, num_top: int) -> Scores:
        """Log-probabilities of tokens int64 [N] and of each row's best: logits float32 [N, V]."""
        norm, values, best = self._method.best(logits, min(num_top, logits.shape[1]))
        own = logits.gather(1, tokens.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
        return Scores(own - norm, values - norm[:, None], best)


def no_token(top: Tensor, tokens: Tensor) -> Tensor:
    """`tokens` [R], with the reason where the largest logit [R] of its row allows none."""
    tokens = torch.where(top == NEVER, NOTHING, tokens)
    return torch.where(top.isnan() | (top == -NEVER), NOT_FINITE, tokens)


def logprob_of(
    token: int, own: float, values: Sequence[float], tokens: Sequence[int], num_top: int
) -> TokenLogprob:
    """A row's scores as the host's record."""
    pairs = list(zip(tokens[:num_top], values[:num_top], strict=True))
    return TokenLogprob(token, own, pairs)
