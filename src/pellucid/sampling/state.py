"""What drawing needs to know of each sequence, kept where the drawing happens.

A sequence takes a place when it comes and leaves it when it goes. Its sampling parameters cross to
the device once, when it comes; so do the tokens that penalties look back at and the short lists of
biases and forbidden tokens. After that the device keeps the counts up to date by itself, so that a
step needs nothing from the host, and its graph reads the same addresses at every replay.

    columns       int32 [NUM_COLUMNS, S]   settings, see kernels/columns.py
    counts        int32 [S, V]             tokens seen, see kernels/triton/adjust.py
    edit_tokens   int32 [S, E]             biases first, then tokens that would end the answer
    edit_values   float32 [S, E]

S is one more than the places: the last is that of padding rows, and asks for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pellucid.kernels.columns import NUM_COLUMNS, Column
from pellucid.request import MAX_EDITED, MAX_EDITS, SamplingParams, SequenceStart, looks_back


class SamplingState:
    """The tables above, for `num_places` sequences at a time."""

    def __init__(
        self,
        num_places: int,
        vocab_size: int,
        eos_token_ids: Sequence[int],
        device: torch.device,
    ) -> None:
        size = num_places + 1
        self.device = device
        self.counts = torch.zeros(size, vocab_size, dtype=torch.int32, device=device)
        self.edit_tokens = torch.zeros(size, MAX_EDITS, dtype=torch.int32, device=device)
        self.edit_values = torch.zeros(size, MAX_EDITS, dtype=torch.float32, device=device)
        known = [token for token in eos_token_ids if 0 <= token < vocab_size]
        self._eos = tuple(known[: MAX_EDITS - MAX_EDITED])
        pinned = device.type == "cuda"
        # Two stages take turns: one may still be read by the step in flight.
        self._stages = [
            torch.zeros(NUM_COLUMNS, size, dtype=torch.int32, pin_memory=pinned) for _ in range(2)
        ]
        self._mirror = np.zeros((NUM_COLUMNS, size), dtype=np.int32)
        self._floats = self._mirror.view(np.float32)
        self._set_columns(num_places, SamplingParams(temperature=0))
        self.columns = torch.from_numpy(self._mirror)
        if pinned:
            self.columns = self.columns.to(device)

    def admit(self, places: Sequence[int], starts: Sequence[SequenceStart]) -> None:
        """Take in sequences that begin, each in its place."""
        for place, start in zip(places, starts, strict=True):
            self._set_columns(place, start.params, start)
            if start.tokens:
                self._count(place, start)
            if self._mirror[Column.NUM_BIAS, place] + self._mirror[Column.NUM_ENDS, place]:
                self._note_edits(place, start.params)
        if places and self.device.type == "cuda":
            stage = self._stages[0]
            self._stages.reverse()
            stage.numpy()[:] = self._mirror
            self.columns.copy_(stage, non_blocking=True)

    def _set_columns(
        self, place: int, params: SamplingParams, start: SequenceStart | None = None
    ) -> None:
        p, floats, ints = params, self._floats[:, place], self._mirror[:, place]
        floats[Column.TEMPERATURE] = p.temperature
        ints[Column.TOP_K] = min(p.top_k, 2**31 - 1)
        floats[Column.TOP_P] = p.top_p
        floats[Column.MIN_P] = p.min_p
        floats[Column.REPETITION] = p.repetition_penalty
        floats[Column.PRESENCE] = p.presence_penalty
        floats[Column.FREQUENCY] = p.frequency_penalty
        ints[Column.PENALIZED] = looks_back(p)
        ints[Column.NUM_BIAS] = len(p.logit_bias)
        ints[Column.NUM_ENDS] = len(self._ends(p))
        if start is not None:
            ints[Column.ENDS_FROM] = min(start.num_prompt + p.min_tokens, 2**31 - 1)
            ints[Column.NUM_KNOWN] = start.num_known
            seed = start.seed & (2**64 - 1)
            low, high = np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint32).view(np.int32)
            ints[Column.SEED_LOW], ints[Column.SEED_HIGH] = low, high

    def _ends(self, params: SamplingParams) -> tuple[int, ...]:
        """Tokens that are impossible before `min_tokens` new ones."""
        if not params.min_tokens:
            return ()
        return (*params.stop_token_ids, *(() if params.ignore_eos else self._eos))

    def _count(self, place: int, start: SequenceStart) -> None:
        """What the host knows of the sequence's tokens, counted."""
        tokens = np.array(start.tokens, dtype=np.int64)
        prompt = np.unique(tokens[: start.num_prompt])
        answer, times = np.unique(tokens[start.num_prompt :], return_counts=True)
        index = self._moved(np.concatenate((prompt, answer)))
        values = self._moved(np.concatenate((np.ones(len(prompt)), 2 * times)).astype(np.int32))
        self.counts[place].zero_().index_put_((index,), values, accumulate=True)

    def _note_edits(self, place: int, params: SamplingParams) -> None:
        tokens = np.array([*params.logit_bias, *self._ends(params)], dtype=np.int32)
        values = np.array(list(params.logit_bias.values()), dtype=np.float32)
        self.edit_tokens[place, : len(tokens)] = self._moved(tokens)
        self.edit_values[place, : len(values)] = self._moved(values)

    def _moved(self, values: np.ndarray) -> torch.Tensor:
        """The values on the device; the host does not wait for the copy."""
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)
