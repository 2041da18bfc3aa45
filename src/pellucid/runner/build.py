"""From a loaded model to a runner: first a small one to measure with, then the real one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch

from pellucid.attention import AttentionBackend, PaddedAttention
from pellucid.cache.pool import KVPool
from pellucid.config import EngineConfig
from pellucid.kernels import DecodeKernels
from pellucid.model.decoder import Decoder
from pellucid.model.spec import ModelSpec
from pellucid.request import Row, SamplingParams, StepPlan
from pellucid.runner.executors import CudaGraphExecutor, EagerExecutor, Executor
from pellucid.runner.machine import Machine
from pellucid.runner.memory import Profile, make_pool, naming
from pellucid.runner.padded import PaddedInputs, Shape
from pellucid.runner.runner import Runner
from pellucid.runner.steps import PaddedSteps
from pellucid.sampling.sampler import Sampler
from pellucid.stages import Clock, NullClock

_PROFILED = 2048
"""Tokens of the longest step that is measured; see `extrapolate`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All that a runner is made of, but for its KV pool."""

    config: EngineConfig
    spec: ModelSpec
    machine: Machine
    context_length: int
    model: Decoder
    attention: AttentionBackend
    sampler: Sampler
    kernels: DecodeKernels | None
    """None: there are no padded steps."""

    def runner(self, pool: KVPool, clock: Clock, graphs: bool) -> Runner:
        """A runner on `pool`."""
        padded = self._padded(pool, clock, graphs)
        if padded is not None and graphs and self.config.capture == "start":
            self._capture_all(padded)
        return Runner(
            self.model,
            pool,
            self.attention,
            self.sampler,
            clock,
            self.machine.device,
            self.config.max_seqs,
            padded,
        )

    def _padded(self, pool: KVPool, clock: Clock, graphs: bool) -> PaddedSteps | None:
        if self.kernels is None or not isinstance(self.attention, PaddedAttention):
            return None
        device, max_seqs = self.machine.device, self.config.max_seqs
        prompts = self.machine.chunked_prefill or max_seqs * self.context_length
        inputs = PaddedInputs(
            max_seqs,
            prompts + max_seqs,  # rows that decode do not count against the limit
            -(-self.context_length // pool.block_size),
            pool.block_size,
            pool.spare_block,
            self.attention,
            device,
        )
        executor: Executor = EagerExecutor()
        if graphs:
            executor = CudaGraphExecutor(device, clock)
        return PaddedSteps(self.model, pool, self.attention, clock, inputs, executor, self.kernels)

    def _capture_all(self, padded: PaddedSteps) -> None:
        """Largest first, so that the smaller ones fit into the memory that it set aside."""
        with naming("graphs", "lower max_seqs, or set graphs off", "max_seqs"):
            for shape in padded.inputs.shapes():
                padded.capture(shape)


@torch.inference_mode()
def compile_ahead(parts: Parts) -> None:
    """Compile what a first prompt and its first tokens need, all at once.

    One layer of each kind is enough, and the last one, which leaves tokens out: the others launch
    the same kernels.
    """
    kernels = parts.kernels
    if not parts.machine.is_gpu or kernels is None:
        return
    short = copy.copy(parts.model)
    *layers, last = parts.model.layers
    short.layers = [*{(layer.shape, layer.rope): layer for layer in layers}.values(), last]
    parts = replace(parts, model=short)
    tokens = min(_PROFILED, parts.context_length)
    num_blocks = -(-tokens // parts.machine.block_size)
    with _naming_activations(), kernels.ahead():
        runner = parts.runner(make_pool(num_blocks, parts.spec, parts.machine), NullClock(), False)
        runner.run(StepPlan([_profile_row(tokens, num_blocks)]))
        if (padded := runner.padded) is not None:
            for rows in (1, padded.inputs.capacity):
                padded.step(Shape(rows))


@torch.inference_mode()
def measure(parts: Parts) -> Profile:
    """What the largest steps take on a GPU; on a CPU, where nothing is set aside, nothing."""
    machine, config = parts.machine, parts.config
    if not machine.is_gpu:
        return Profile()
    most = min(machine.chunked_prefill or parts.context_length, parts.context_length)
    tokens = min(most, _PROFILED)
    num_blocks = -(-tokens // machine.block_size)
    with _naming_activations():
        runner = parts.runner(make_pool(num_blocks, parts.spec, machine), NullClock(), False)
        half, whole = (
            _peak_of(partial(runner.run, StepPlan([_profile_row(length, num_blocks)])))
            for length in (max(1, tokens // 2), tokens)
        )
        ragged = extrapolate(half, whole, tokens, most)
        graphs = 0
        if (padded := runner.padded) is not None:
            largest = padded.inputs.largest()
            graphs = max(_peak_of(partial(padded.capture, shape)) for shape in largest)
            graphs += padded.logits.nbytes
    # What the sampler may make of the logits when it has to truncate: a few copies in float32.
    logits = 4 * config.max_seqs * parts.spec.vocab_size * 4
    return Profile(activations=ragged + logits, graphs=graphs)


def extrapolate(half: int, whole: int, tokens: int, most: int) -> int:
    """Bytes that a step of `most` tokens takes, from what `tokens // 2` and `tokens` of them took.

    Through both goes one curve a·n + b·n²; b is that of attention that writes all its scores.
    """
    b = max(0.0, 2 * (whole - 2 * half) / tokens**2)
    a = max(0.0, whole / tokens - b * tokens)
    return int(a * most + b * most**2)


def _naming_activations() -> AbstractContextManager[None]:
    return naming("activations", "set chunked_prefill or max_seqs lower", "chunked_prefill")


def _profile_row(tokens: int, num_blocks: int) -> Row:
    ids = [0] * tokens
    return Row(
        seq_id=0,
        tokens=ids,
        start=0,
        blocks=list(range(num_blocks)),
        samples=True,
        scores_prompt=False,
        params=SamplingParams(temperature=0),
        seed=0,
        history=ids,
        num_prompt=tokens,
    )


def _peak_of(work: Callable[[], object]) -> int:
    """Bytes that `work` takes on the GPU at its peak, beyond what was taken before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return int(torch.cuda.max_memory_allocated() - before)
