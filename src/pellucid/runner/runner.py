"""The device's side of a step: forward, logits where they are needed, sample.

`launch` starts a step and returns a `Flight` without waiting for the device; `Flight.land` waits.
On a CPU there is nothing to wait for and the flight has landed when it starts.

Decode steps on a GPU take the road of padded rows in persistent buffers (`_decode`), through the
executor; everything else is ragged. The tokens of a step stay on the device as well, in `_sampled`,
where the next step finds those that the host has not seen yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from pellucid.attention import AttentionBackend, PaddedAttention
from pellucid.cache.pool import KVPool
from pellucid.kernels import DecodeKernels
from pellucid.kernels.units import Stream
from pellucid.model.decoder import Batch, Decoder
from pellucid.request import Row, StepPlan, StepResult, TokenLogprob
from pellucid.runner.executors import Executor
from pellucid.runner.inputs import DecodeInputs, make_batch, padded_size
from pellucid.runner.memory import naming
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
        decode: DecodeSteps | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        self.attention = attention
        self.sampler = sampler
        self.clock = clock
        self.decode = decode
        self._sampled = torch.zeros(max_rows, dtype=torch.int64, device=device)
        if decode is not None:
            self._sampled = decode.sampled
        self._places: dict[int, int] = {}

    def run(self, plan: StepPlan) -> StepResult:
        """Launch the plan and wait for it."""
        return self.launch(plan).land()

    def use(self, clock: Clock) -> None:
        """Laps belong to `clock` from here on."""
        self.clock = clock
        if self.decode is not None:
            self.decode.use(clock)

    def is_recorded(self, num_rows: int) -> bool:
        """Whether a decode step of so many rows can be launched at once."""
        return self.decode is None or self.decode.is_recorded(num_rows)

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> Flight:
        """Start computing every row of the plan, and sampling where a row says so."""
        flight = Flight(plan, [i for i, row in enumerate(plan.rows) if row.samples])
        with naming("activations", "set chunked_prefill or max_seqs lower", "chunked_prefill"):
            if self.decode is not None and is_decode(plan):
                self._decode(flight, self.decode)
            else:
                self._ragged(flight)
        return flight

    def _decode(self, flight: Flight, decode: DecodeSteps) -> None:
        # Longest first, so that no row is begun while the others are about to end.
        flight.asking.sort(key=lambda i: -flight.plan.rows[i].start)
        rows = [flight.plan.rows[i] for i in flight.asking]
        logits = decode.run(rows, self._places)
        if decode.samples and all(map(self.sampler.is_plain, rows)):
            chosen = Choice(self._sampled[: len(rows)], [], None)
        else:
            chosen = self.sampler.launch(logits, rows)
        self._keep(flight, chosen)

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


def is_decode(plan: StepPlan) -> bool:
    """Whether every row computes one token and samples the next."""
    return all(len(row.tokens) == 1 and row.samples and not row.scores_prompt for row in plan.rows)


class DecodeSteps:
    """Steps of one new token a row: padded, on persistent buffers, through the executor."""

    def __init__(
        self,
        model: Decoder,
        cache: KVPool,
        attention: PaddedAttention,
        clock: Clock,
        inputs: DecodeInputs,
        executor: Executor,
        kernels: DecodeKernels,
    ) -> None:
        self.samples = kernels.samples
        self.capacity = inputs.capacity
        self.sampled = torch.zeros(inputs.capacity, dtype=torch.int64, device=inputs.device)
        self._model = model
        self._cache = cache
        self._attention = attention
        self._clock = clock
        self._inputs = inputs
        self._executor = executor
        self._kernels = kernels

    def use(self, clock: Clock) -> None:
        self._clock = clock
        self._executor.use(clock)

    def run(self, rows: list[Row], places: dict[int, int]) -> torch.Tensor:
        """Logits of the rows [rows, vocab]; where kernels sample, tokens are in `sampled`."""
        size = self._inputs.fill(rows, places)
        self._clock.lap("prepare")
        return self._executor.run(size, lambda: self.step(size))[: len(rows)]

    def is_recorded(self, num_rows: int) -> bool:
        return self._executor.is_recorded(padded_size(max(1, num_rows)))

    @torch.inference_mode()
    def capture(self, size: int) -> None:
        """Have the executor see the step of `size` rows before it is needed; all rows padding."""
        self._inputs.fill([], {}, size)
        self._executor.run(size, lambda: self.step(size))

    def step(self, size: int) -> torch.Tensor:
        """Everything between the input buffers and the logits of `size` rows."""
        inputs, kernels = self._inputs, self._kernels
        tables, positions = inputs.tables[:size], inputs.positions(size)
        given = kernels.prepare(
            inputs.tokens(size),
            positions,
            tables,
            inputs.seeds[:size],
            self.sampled,
            self._cache.block_size,
        )
        batch = Batch(
            tokens=given.tokens,
            positions=positions,
            slots=given.slots,
            rows=self._attention.prepare_decode(given.contexts, tables),
        )
        hidden = self._model.forward(batch, self._cache, self._attention, self._clock)
        logits = self._model.logits(hidden, self._clock)
        if kernels.choose is not None:
            chosen = kernels.choose(logits, inputs.temperatures[:size], given.keys)
            self.sampled[:size].copy_(chosen)
            self._clock.lap("sample")
        return logits
