"""The device's side of a step: forward, logits where they are needed, sample.

`launch` starts a step and returns a `Flight` without waiting for the device; `Flight.land` waits.
On a CPU there is nothing to wait for and the flight has landed when it starts.

On a GPU, steps that would be over before their kernels are launched are padded and lie in
persistent buffers (`steps.PaddedSteps`); all others get tensors of their own. The tokens of a step
stay on the device as well, in `_sampled`, where the next step finds those that the host has not
seen yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from pellucid.attention import AttentionBackend
from pellucid.cache.pool import KVPool
from pellucid.kernels.units import Stream
from pellucid.model.decoder import Decoder
from pellucid.request import Row, StepPlan, StepResult, TokenLogprob
from pellucid.runner.inputs import make_batch
from pellucid.runner.memory import naming
from pellucid.runner.padded import Shape
from pellucid.runner.steps import PaddedSteps
from pellucid.sampling.sampler import Choice, Sampler, Scores, score
from pellucid.stages import Clock

_SCORE_ROWS = 64
"""Prompt positions scored at a time: bounds the memory of [positions, vocab] logits."""


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


@dataclass(slots=True)
class Flight:
    """A step that was launched and may still be running."""

    plan: StepPlan
    asking: list[int] = field(default_factory=list)
    """Which rows of the plan sample."""
    tokens: HostCopy | None = None
    choice: Choice | None = None
    scores: dict[int, list[Scores]] = field(default_factory=dict)
    """Of rows that score their prompt."""

    def land(self) -> StepResult:
        """Wait for the device and read what it chose."""
        sampled: list[TokenLogprob | None] = [None] * len(self.plan.rows)
        if self.tokens is not None and self.choice is not None:
            entries = self.choice.read(self.tokens.tolist())
            for i, entry in zip(self.asking, entries, strict=True):
                sampled[i] = entry
        read = {i: [e for part in parts for e in part.read()] for i, parts in self.scores.items()}
        return StepResult(sampled, [read.get(i) for i in range(len(self.plan.rows))])


class Runner:
    """Runs plans on one model with one KV pool."""

    def __init__(
        self,
        model: Decoder,
        cache: KVPool,
        attention: AttentionBackend,
        sampler: Sampler,
        clock: Clock,
        device: torch.device,
        max_rows: int,
        padded: PaddedSteps | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        self.attention = attention
        self.sampler = sampler
        self.clock = clock
        self.padded = padded
        self._sampled = torch.zeros(max_rows, dtype=torch.int64, device=device)
        if padded is not None:
            self._sampled = padded.sampled
        self._places: dict[int, int] = {}

    def run(self, plan: StepPlan) -> StepResult:
        """Launch the plan and wait for it."""
        return self.launch(plan).land()

    def use(self, clock: Clock) -> None:
        """Laps belong to `clock` from here on."""
        self.clock = clock
        if self.padded is not None:
            self.padded.use(clock)

    def is_recorded(self, num_rows: int) -> bool:
        """Whether a decode step of so many rows can be launched at once."""
        return self.padded is None or self.padded.is_recorded(num_rows)

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> Flight:
        """Start computing every row of the plan, and sampling where a row says so."""
        flight = Flight(plan, [i for i, row in enumerate(plan.rows) if row.samples])
        with naming("activations", "set chunked_prefill or max_seqs lower", "chunked_prefill"):
            padded = self.padded
            shape = padded.inputs.shape_of(plan.rows) if padded is not None else None
            if padded is not None and shape is not None:
                self._padded(flight, padded, shape)
            else:
                self._ragged(flight)
        return flight

    def _padded(self, flight: Flight, padded: PaddedSteps, shape: Shape) -> None:
        # Longest first, so that no row is begun while the others are about to end.
        plan, asking = flight.plan, flight.asking
        asking.sort(key=lambda i: -plan.rows[i].start)
        rows = [plan.rows[i] for i in asking]
        others = [row for row in plan.rows if not row.samples]
        logits = padded.run([*rows, *others], self._places, shape)[: len(rows)]
        if padded.samples and all(map(self.sampler.is_plain, rows)):
            self._keep(flight, Choice(self._sampled[: len(rows)], [], None))
        else:
            self._keep(flight, self.sampler.launch(logits, rows))

    def _ragged(self, flight: Flight) -> None:
        plan = flight.plan
        batch = make_batch(plan, self.cache.block_size, self.attention, self._sampled, self._places)
        self.clock.lap("prepare")
        hidden = self.model.forward(batch, self.cache, self.attention, self.clock)
        end = 0
        last: list[int] = []
        for i, row in enumerate(plan.rows):
            # `hidden` has every token, or with `keep` one of each row that samples.
            begin, end = end, end + (len(row.tokens) if batch.keep is None else row.samples)
            if row.samples:
                last.append(end - 1)
            if row.scores_prompt:
                flight.scores[i] = self._score(hidden.x[begin:end], row)
        if last:
            wanted = hidden if len(last) == len(hidden.x) else Stream(hidden.x[last])
            logits = self.model.logits(wanted, self.clock)
            self._keep(flight, self.sampler.launch(logits, [plan.rows[i] for i in flight.asking]))

    def _keep(self, flight: Flight, choice: Choice) -> None:
        """Send the tokens to the host, and keep them for the next step."""
        flight.choice, flight.tokens = choice, HostCopy(choice.tokens)
        if choice.tokens.data_ptr() != self._sampled.data_ptr():
            self._sampled[: len(flight.asking)].copy_(choice.tokens)
        self._places = {flight.plan.rows[i].seq_id: n for n, i in enumerate(flight.asking)}
        self.clock.lap("sample")

    def _score(self, hidden: torch.Tensor, row: Row) -> list[Scores]:
        """Log-probabilities of the prompt tokens that follow the row's tokens."""
        targets = row.history[row.start + 1 : min(row.end + 1, row.num_prompt)]
        num_top = row.params.prompt_logprobs or 0
        parts: list[Scores] = []
        for begin in range(0, len(targets), _SCORE_ROWS):
            part = torch.tensor(targets[begin : begin + _SCORE_ROWS], device=hidden.device)
            logits = self.model.logits(Stream(hidden[begin : begin + len(part)]), self.clock)
            logprobs = torch.log_softmax(logits.float(), dim=-1)
            parts.append(score(logprobs, part, [num_top] * len(part)))
        self.clock.lap("sample")
        return parts
