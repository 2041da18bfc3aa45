"""Two ways to run a step: on buffers that stay, padded, or on tensors made for the occasion.

`PaddedSteps` launches the same kernels whatever stands in its buffers (padded.py), so that its
steps can be recorded once and replayed (executors.py). `RaggedSteps` takes any step. Both do the
same work: forward, logits of the rows that sample, a token for each (sampling/sampler.py). The
tokens stay on the device as well, in `sampled`, by the place of their sequence, where the next step
finds those that the host has not seen yet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from pellucid.attention import AttentionBackend, AttentionRow, PaddedAttention
from pellucid.cache.pool import KVPool
from pellucid.kernels.rows import Prepare, draw_keys, resolve
from pellucid.kernels.units import Stream
from pellucid.model.decoder import Batch, Decoder
from pellucid.request import Row
from pellucid.runner.executors import Executor
from pellucid.runner.padded import PaddedInputs
from pellucid.runner.sequences import Flat, SequenceTable, flatten
from pellucid.runner.shapes import Shape
from pellucid.sampling.sampler import Draw, Drawn, Rows, Sampler, Scores, draw_of
from pellucid.stages import Clock

logger = logging.getLogger(__name__)

SCORED_AT_ONCE = 64
"""Prompt positions scored at a time: bounds the memory of [positions, vocab] logits."""


@dataclass(slots=True)
class Launched:
    """A step on its way."""

    sampling: list[int]
    """Which rows of the plan sample, in the order of `drawn`."""
    drawn: Drawn
    """Of those rows; none, if none samples. That its tokens are on the host means that the step has
    ended, so also a step without any has them copied."""
    scored: dict[int, int] = field(default_factory=dict)
    """For those of `sampling` that ask for log-probabilities: where in `drawn.scores` they are."""
    prompt_scores: dict[int, list[Scores]] = field(default_factory=dict)
    """Of rows with targets."""


class Steps(Protocol):
    """One way to run a step."""

    @property
    def has_missing(self) -> bool:
        """Whether a kind of step has run that could be launched faster from now on."""

    def prepare_missing(self) -> None:
        """Make that so. No step may be in flight."""

    def prepare_ahead(self) -> bool:
        """Make one kind of step ready that has not been asked for yet; False if there is none."""

    def takes(self, rows: Sequence[Row]) -> bool:
        """Whether a step of these rows can be run this way."""

    def launch(self, rows: Sequence[Row]) -> Launched:
        """Start a step; the host does not wait for it."""

    def use(self, clock: Clock) -> None:
        """Laps belong to `clock` from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """What both ways work with."""

    model: Decoder
    cache: KVPool
    sampler: Sampler
    sequences: SequenceTable
    sampled: torch.Tensor
    """int64 [places + 1]: what each sequence sampled last"""

    def draw_of(self, rows: Sequence[Row]) -> Draw:
        """What the rows that sample ask for."""
        starts = ((self.sequences[row.seq_id].start, row) for row in rows if row.samples)
        return draw_of((start.params, row.end - start.num_prompt) for start, row in starts)

    def scored(self, rows: Sequence[Row], sampling: Sequence[int]) -> list[int]:
        """Which of the rows that sample ask for log-probabilities, counted in `sampling`."""
        wanted = [self.sequences[rows[i].seq_id].start.params.logprobs for i in sampling]
        return [n for n, num_top in enumerate(wanted) if num_top is not None]


class RaggedSteps:
    """Any step, with tensors of its own. There is nothing to prepare."""

    has_missing = False

    def __init__(self, parts: StepParts, attention: AttentionBackend, clock: Clock) -> None:
        self._parts = parts
        self._attention = attention
        self._clock = clock
        self._device = parts.sampled.device

    def takes(self, rows: Sequence[Row]) -> bool:
        return True

    def prepare_missing(self) -> None:
        pass

    def prepare_ahead(self) -> bool:
        return False

    def use(self, clock: Clock) -> None:
        self._clock = clock

    def launch(self, rows: Sequence[Row]) -> Launched:
        parts, cache = self._parts, self._parts.cache
        flat = flatten(rows, parts.sequences, cache.block_size)
        sampling = [i for i, row in enumerate(rows) if row.samples]
        step = Launched(sampling, Drawn(parts.sampled[:0], None))
        batch = self._batch(flat, rows, sampling)
        self._clock.lap("prepare")
        hidden = parts.model.forward(batch, cache, self._attention, self._clock)
        for i, row in enumerate(rows):
            if row.targets:
                first = int(flat.firsts[i])
                step.prompt_scores[i] = self._score(hidden.x[first : first + len(row.tokens)], row)
        if sampling:
            lasts = flat.firsts[sampling] + flat.lengths[sampling] - 1
            if len(hidden.x) > len(sampling):
                hidden = Stream(hidden.x[self._moved(lasts)])
            logits = parts.model.logits(hidden, self._clock)
            scored = parts.scored(rows, sampling)
            step.scored = {n: index for index, n in enumerate(scored)}
            drawing = self._rows(flat, sampling, batch.tokens[self._moved(lasts)])
            step.drawn = parts.sampler.draw(logits, drawing, parts.draw_of(rows), scored)
            parts.sampled.index_copy_(0, drawing.places, step.drawn.tokens)
            self._clock.lap("sample")
        return step

    def _batch(self, flat: Flat, rows: Sequence[Row], sampling: Sequence[int]) -> Batch:
        block_size = self._parts.cache.block_size
        attended = [
            AttentionRow(
                slice(int(first), int(first + length)),
                int(context),
                self._parts.sequences[row.seq_id].blocks[: -(-int(context) // block_size)],
            )
            for row, first, length, context in zip(
                rows, flat.firsts, flat.lengths, flat.contexts, strict=True
            )
        ]
        tokens = self._moved(flat.tokens)
        batch = Batch(
            tokens=resolve(tokens, self._parts.sampled) if flat.tokens.min() < 0 else tokens,
            positions=self._moved(flat.positions),
            slots=self._moved(flat.slots),
            rows=self._attention.prepare(attended, self._device),
        )
        if len(sampling) < len(flat.tokens) and not any(row.targets for row in rows):
            # Only the last token of each row that samples has to go through the last layer.
            lasts = [attended[i] for i in sampling]
            alone = [
                AttentionRow(slice(n, n + 1), row.context, row.blocks)
                for n, row in enumerate(lasts)
            ]
            keep = [row.queries.stop - 1 for row in lasts]
            batch.keep = torch.tensor(keep, dtype=torch.int64, device=self._device)
            batch.kept_rows = self._attention.prepare(alone, self._device) if alone else None
        return batch

    def _rows(self, flat: Flat, sampling: Sequence[int], tokens: torch.Tensor) -> Rows:
        places = self._moved(flat.places[sampling])
        positions = self._moved(flat.contexts[sampling] - 1)
        settings = self._parts.sampler.state.columns[:, places]
        return Rows(places, tokens, positions, draw_keys(settings, positions), settings)

    def _score(self, hidden: torch.Tensor, row: Row) -> list[Scores]:
        """Log-probabilities of the prompt tokens that follow the row's tokens."""
        parts: list[Scores] = []
        num_top = self._parts.sequences[row.seq_id].start.params.prompt_logprobs or 0
        for begin in range(0, len(row.targets), SCORED_AT_ONCE):
            targets = torch.tensor(row.targets[begin : begin + SCORED_AT_ONCE])
            targets = targets.to(hidden.device)
            stream = Stream(hidden[begin : begin + len(targets)])
            logits = self._parts.model.logits(stream, self._clock)
            parts.append(self._parts.sampler.score(logits, targets, num_top))
        self._clock.lap("sample")
        return parts

    def _moved(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(numbers).to(self._device)


class PaddedSteps:
    """Steps on persistent buffers, through an executor."""

    def __init__(
        self,
        parts: StepParts,
        attention: PaddedAttention,
        clock: Clock,
        *,
        inputs: PaddedInputs,
        executor: Executor,
        prepare: Prepare,
    ) -> None:
        rows, vocab, device = inputs.shapes.max_rows, parts.model.spec.vocab_size, inputs.device
        self.inputs = inputs
        self.logits = torch.empty(rows, vocab, dtype=torch.float32, device=device)
        """Of the latest step. All shapes share it: a graph would keep its own for ever."""
        self._parts = parts
        self._attention = attention
        self._clock = clock
        self._executor = executor
        self._prepare = prepare
        self._common = inputs.shapes.common()

    def takes(self, rows: Sequence[Row]) -> bool:
        return self.inputs.shapes.shape_of(rows) is not None

    def use(self, clock: Clock) -> None:
        self._clock = clock
        self._executor.use(clock)

    def launch(self, rows: Sequence[Row]) -> Launched:
        sampling = [i for i, row in enumerate(rows) if row.samples]
        # The longest come first. A row's programs start in the order of rows, so a long row that
        # came last would still be running when all others are done.
        sampling.sort(key=lambda i: -rows[i].start)
        others = [row for row in rows if not row.samples]
        shape = self.inputs.shapes.shape_of(rows, self._parts.draw_of(rows))
        assert shape is not None, "takes() said otherwise"
        self.inputs.fill([*(rows[i] for i in sampling), *others], shape)
        self._clock.lap("prepare")
        drawn = self._executor.run(shape, lambda: self.step(shape))
        drawn = drawn._replace(tokens=drawn.tokens[: len(sampling)])
        scored = {n: n for n in self._parts.scored(rows, sampling)}
        return Launched(sampling, drawn, scored)

    @property
    def has_missing(self) -> bool:
        return bool(self._executor.missing)

    def prepare_missing(self) -> None:
        for shape in list(self._executor.missing):
            self._prepare_if_it_fits(shape)

    def prepare_ahead(self) -> bool:
        while self._common:
            shape = self._common.pop(0)
            if not self._executor.is_ready(shape):
                self._prepare_if_it_fits(shape)
                return True
        return False

    def _prepare_if_it_fits(self, shape: Shape) -> None:
        """Without memory for it, steps of this shape go on being launched one kernel at a time."""
        try:
            self.prepare(shape)
        except torch.OutOfMemoryError as error:
            logger.warning("no memory to record %s: it stays slower (%s)", shape, error)
            self._executor.give_up(shape)

    @torch.inference_mode()
    def prepare(self, shape: Shape) -> None:
        """Have the executor see the step of this shape before it is needed; all of it padding."""
        self.inputs.fill([], shape)
        self._executor.prepare(shape, lambda: self.step(shape))

    def step(self, shape: Shape) -> Drawn:
        """Everything between the input buffers and the drawn tokens, R of them."""
        parts = self._parts
        batch, rows = self._ragged(shape) if shape.tokens else self._decode(shape)
        hidden = parts.model.forward(batch, parts.cache, self._attention, self._clock)
        logits = parts.model.logits(hidden, self._clock, self.logits[: shape.rows])
        drawn = parts.sampler.draw(logits, rows, shape.draw)
        parts.sampled.index_copy_(0, rows.places, drawn.tokens)
        self._clock.lap("sample")
        return drawn

    def _decode(self, shape: Shape) -> tuple[Batch, Rows]:
        tokens, positions, places = self.inputs.decode(shape)
        given = self._prepare(
            tokens,
            positions,
            places,
            places,
            self.inputs.tables,
            self._parts.sampler.state.columns,
            self._parts.sampled,
            self._parts.cache.block_size,
            self.inputs.row_tables[: shape.rows],
        )
        batch = Batch(
            tokens=given.tokens,
            positions=positions,
            slots=given.slots,
            rows=self._attention.prepare_decode(given.contexts, given.tables),
        )
        return batch, Rows(places, given.tokens, positions, given.keys, given.settings)

    def _ragged(self, shape: Shape) -> tuple[Batch, Rows]:
        """Every row's last token is kept, also of rows that do not sample; and `prepare` is asked
        about these last tokens, one a row, as if they were a decode step of their own."""
        given = self.inputs.ragged(shape)
        num_rows = shape.rows
        tokens = resolve(given.tokens, self._parts.sampled)
        lasts = self._prepare(
            tokens[given.lasts],
            given.ends,
            given.places,
            given.draw_places,
            self.inputs.tables,
            self._parts.sampler.state.columns,
            self._parts.sampled,
            self._parts.cache.block_size,
            self.inputs.row_tables[: num_rows + 1],
        )
        batch = Batch(
            tokens=tokens,
            positions=given.positions,
            slots=given.slots,
            rows=self._attention.prepare_ragged(given.rows),
            keep=given.lasts[:num_rows],
            kept_rows=self._attention.prepare_decode(
                lasts.contexts[:num_rows], lasts.tables[:num_rows]
            ),
        )
        rows = Rows(
            given.draw_places[:num_rows],
            lasts.tokens[:num_rows],
            given.ends[:num_rows],
            lasts.keys[:num_rows],
            lasts.settings[:, :num_rows],
        )
        return batch, rows
