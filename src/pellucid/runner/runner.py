"""The device's side of a step: forward, logits where they are needed, sample."""

from __future__ import annotations

import torch

from pellucid.attention import AttentionBackend
from pellucid.cache.pool import KVPool
from pellucid.model.decoder import Decoder
from pellucid.request import Row, StepPlan, StepResult, TokenLogprob
from pellucid.runner.inputs import make_batch
from pellucid.sampling.sampler import Sampler, token_logprobs
from pellucid.stages import Clock

_SCORE_ROWS = 64
"""Prompt positions scored at a time: bounds the memory of [positions, vocab] logits."""


class Runner:
    """Runs plans on one model with one KV pool."""

    def __init__(
        self,
        model: Decoder,
        cache: KVPool,
        attention: AttentionBackend,
        sampler: Sampler,
        device: torch.device,
        clock: Clock,
    ) -> None:
        self.model = model
        self.cache = cache
        self.attention = attention
        self.sampler = sampler
        self.device = device
        self.clock = clock

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> StepResult:
        """Compute every row of the plan; sample where a row says so."""
        batch = make_batch(plan, self.cache.block_size, self.attention, self.device)
        self.clock.lap("prepare")
        hidden = self.model.forward(batch, self.cache, self.attention, self.clock)
        sampled: list[TokenLogprob | None] = [None] * len(plan.rows)
        asking = [i for i, row in enumerate(plan.rows) if row.samples]
        if asking:
            last = hidden[[batch.ends[i] - 1 for i in asking]]
            logits = self.model.logits(last, self.clock)
            chosen = self.sampler.sample(logits, [plan.rows[i] for i in asking])
            for i, token in zip(asking, chosen, strict=True):
                sampled[i] = token
            self.clock.lap("sample")
        scores = [
            self._score(hidden[end - len(row.tokens) : end], row) if row.scores_prompt else None
            for row, end in zip(plan.rows, batch.ends, strict=True)
        ]
        return StepResult(sampled, scores)

    def _score(self, hidden: torch.Tensor, row: Row) -> list[TokenLogprob]:
        """Log-probabilities of the prompt tokens that follow the row's tokens."""
        targets = row.history[row.start + 1 : min(row.start + len(row.tokens) + 1, row.num_prompt)]
        num_top = row.params.prompt_logprobs or 0
        entries: list[TokenLogprob] = []
        for begin in range(0, len(targets), _SCORE_ROWS):
            part = targets[begin : begin + _SCORE_ROWS]
            logits = self.model.logits(hidden[begin : begin + len(part)], self.clock)
            logprobs = torch.log_softmax(logits, dim=-1)
            entries += token_logprobs(logprobs, part, [num_top] * len(part))
        self.clock.lap("sample")
        return entries
