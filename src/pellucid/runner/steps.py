"""Padded steps: everything between the input buffers and the chosen tokens, for an executor to run.

A step's body launches the same kernels whatever stands in the buffers (`padded.PaddedInputs`), so
that it can be run eagerly or recorded once and replayed (`executors`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pellucid.attention import PaddedAttention
from pellucid.cache.pool import KVPool
from pellucid.kernels import DecodeKernels
from pellucid.model.decoder import Batch, Decoder
from pellucid.request import Row
from pellucid.runner.executors import Executor
from pellucid.runner.inputs import Places, resolve
from pellucid.runner.padded import PaddedInputs, Shape, padded_rows
from pellucid.stages import Clock


class PaddedSteps:
    """Steps on persistent buffers, through the executor."""

    def __init__(
        self,
        model: Decoder,
        cache: KVPool,
        attention: PaddedAttention,
        clock: Clock,
        inputs: PaddedInputs,
        executor: Executor,
        kernels: DecodeKernels,
    ) -> None:
        rows, vocab, device = inputs.capacity, model.spec.vocab_size, inputs.device
        self.samples = kernels.samples
        self.inputs = inputs
        self.sampled = torch.zeros(rows, dtype=torch.int64, device=device)
        self.logits = torch.empty(rows, vocab, dtype=torch.float32, device=device)
        """Of the latest step. All shapes share it: a graph would keep its own for ever."""
        self._model = model
        self._cache = cache
        self._attention = attention
        self._clock = clock
        self._executor = executor
        self._kernels = kernels

    def use(self, clock: Clock) -> None:
        self._clock = clock
        self._executor.use(clock)

    def run(self, rows: Sequence[Row], places: Places, shape: Shape) -> torch.Tensor:
        """Logits [rows, vocab] of the rows' last tokens; where kernels sample, tokens are in
        `sampled`. Rows that sample come first."""
        self.inputs.fill(rows, places, shape)
        self._clock.lap("prepare")
        return self._executor.run(shape, lambda: self.step(shape))[: len(rows)]

    def is_recorded(self, num_rows: int) -> bool:
        """Whether a decode step of so many rows can be launched at once."""
        return self._executor.is_recorded(Shape(padded_rows(max(1, num_rows))))

    @torch.inference_mode()
    def capture(self, shape: Shape) -> None:
        """Have the executor see the step of this shape before it is needed; all of it padding."""
        self.inputs.fill([], {}, shape)
        self._executor.run(shape, lambda: self.step(shape))

    def step(self, shape: Shape) -> torch.Tensor:
        """Everything between the input buffers and the logits [places, vocab]."""
        batch, keys = self._ragged(shape) if shape.tokens else self._decode(shape)
        hidden = self._model.forward(batch, self._cache, self._attention, self._clock)
        out = self.logits[: shape.rows]
        logits = self._model.logits(hidden, self._clock, out)
        if self._kernels.choose is not None:
            temperatures = self.inputs.temperatures[: shape.rows]
            chosen = self._kernels.choose(logits, temperatures, keys)
            self.sampled[: shape.rows].copy_(chosen)
            self._clock.lap("sample")
        return logits

    def _decode(self, shape: Shape) -> tuple[Batch, torch.Tensor]:
        """The batch, and the keys of its rows' draws."""
        inputs = self.inputs
        tables, positions = inputs.tables[: shape.rows], inputs.positions(shape)
        given = self._kernels.prepare(
            inputs.tokens(shape),
            positions,
            tables,
            inputs.seeds[: shape.rows],
            self.sampled,
            self._cache.block_size,
        )
        batch = Batch(
            tokens=given.tokens,
            positions=positions,
            slots=given.slots,
            rows=self._attention.prepare_decode(given.contexts, tables),
        )
        return batch, given.keys

    def _ragged(self, shape: Shape) -> tuple[Batch, torch.Tensor]:
        """The same. The last tokens of all rows are kept, also of rows that do not sample."""
        inputs, given = self.inputs, self.inputs.ragged(shape)
        tables = inputs.tables[: shape.rows]
        kept = self._kernels.prepare(
            given.lasts,
            given.ends,
            tables,
            inputs.seeds[: shape.rows],
            self.sampled,
            self._cache.block_size,
        )
        batch = Batch(
            tokens=resolve(given.tokens, self.sampled),
            positions=given.positions,
            slots=given.slots,
            rows=self._attention.prepare_ragged(given.rows),
            keep=given.lasts,
            kept_rows=self._attention.prepare_decode(kept.contexts, tables),
        )
        return batch, kept.keys
