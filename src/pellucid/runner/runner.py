"""The device's side of a step: forward, logits where they are needed, a token for each.

`launch` starts a step and returns a `RunningStep` without waiting for the device; its `wait` waits.
On a CPU there is nothing to wait for. Which way a step is run (steps.py) is decided on its rows:
the first of the ways that takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pellucid.request import RowResult, StepPlan, StepResult, TokenLogprob
from pellucid.runner.sequences import SequenceTable
from pellucid.runner.steps import SCORED_AT_ONCE, Launched, Steps
from pellucid.sampling.sampler import WHY_NO_TOKEN, Sampler, Scores, logprob_of
from pellucid.stages import Clock


class HostCopy:
    """A tensor on its way to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = tensor
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.current_stream().record_event()

    def tolist(self) -> list[Any]:
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()


class ScoresCopy:
    """Log-probabilities on their way to the host."""

    def __init__(self, scores: Scores) -> None:
        self._parts = [HostCopy(part) for part in (scores.own, scores.values, scores.tokens)]

    def read(
        self, tokens: Sequence[int], rows: Sequence[int], num_tops: Sequence[int]
    ) -> list[TokenLogprob]:
        """Those of `tokens`, each in its row of the scores, with so many of the row's best."""
        own, values, best = (part.tolist() for part in self._parts)
        return [
            logprob_of(token, own[i], values[i], best[i], num_top)
            for token, i, num_top in zip(tokens, rows, num_tops, strict=True)
        ]


class RunningStep:
    """A step that was launched and may still be running."""

    def __init__(self, plan: StepPlan, launched: Launched, sequences: SequenceTable) -> None:
        self.plan = plan
        self._sampling = launched.sampling
        self._scored = launched.scored
        self._params = [sequences[row.seq_id].start.params for row in plan.rows]
        self._tokens = HostCopy(launched.drawn.tokens)
        self._scores = ScoresCopy(launched.drawn.scores) if launched.drawn.scores else None
        self._prompt_scores = {
            i: [ScoresCopy(part) for part in parts] for i, parts in launched.prompt_scores.items()
        }

    def wait(self) -> StepResult:
        """Wait for the device and read what it found."""
        results = [RowResult() for _ in self.plan.rows]
        tokens = self._tokens.tolist()
        for i, token in zip(self._sampling, tokens, strict=True):
            if token < 0:
                results[i].error = WHY_NO_TOKEN[token]
            else:
                results[i].tokens = [token]
        if self._scores is not None:
            places = [self._sampling[n] for n in self._scored]
            entries = self._scores.read(
                [tokens[n] for n in self._scored],
                list(self._scored.values()),
                [self._params[i].logprobs or 0 for i in places],
            )
            for i, entry in zip(places, entries, strict=True):
                results[i].scores = [entry]
        for i, parts in self._prompt_scores.items():
            results[i].prompt_scores = self._read_prompt(i, parts)
        return StepResult(results)

    def _read_prompt(self, i: int, parts: Sequence[ScoresCopy]) -> list[TokenLogprob]:
        targets, found = self.plan.rows[i].targets, list[TokenLogprob]()
        num_top = self._params[i].prompt_logprobs or 0
        for part in parts:
            some = targets[len(found) : len(found) + SCORED_AT_ONCE]
            found += part.read(some, range(len(some)), [num_top] * len(some))
        return found


class Runner:
    """Runs plans on one model with one KV pool."""

    def __init__(
        self, ways: Sequence[Steps], sequences: SequenceTable, sampler: Sampler, clock: Clock
    ) -> None:
        self._ways = ways
        self._sequences = sequences
        self._sampler = sampler
        self.use(clock)

    def run(self, plan: StepPlan) -> StepResult:
        """Launch the plan and wait for it."""
        return self.launch(plan).wait()

    def use(self, clock: Clock) -> None:
        """Laps belong to `clock` from here on."""
        self.clock = clock
        for way in self._ways:
            way.use(clock)

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> RunningStep:
        """Start computing every row of the plan, and sampling where a row says so."""
        self._sampler.state.admit(self._sequences.update(plan), plan.starts)
        way = next(way for way in self._ways if way.takes(plan.rows))
        return RunningStep(plan, way.launch(plan.rows), self._sequences)

    @property
    def has_missing(self) -> bool:
        """Whether a kind of step has run that could be launched faster from now on."""
        return any(way.has_missing for way in self._ways)

    def prepare_missing(self) -> None:
        """Make that so. No step may be in flight."""
        for way in self._ways:
            way.prepare_missing()

    def prepare_ahead(self) -> bool:
        """Make one kind of step ready that has not been asked for yet; False if there is none. No
        step may be in flight."""
        return any(way.prepare_ahead() for way in self._ways)

    def forget(self) -> None:
        """A step has failed: no sequence is known any more. Raises if the device is lost too."""
        self._sequences.forget()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
