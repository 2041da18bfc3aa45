"""From a loaded model to a runner: first a small one to measure with, then the real one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch

from pellucid.attention import AttentionBackend, PaddedAttention
from pellucid.cache.pool import KVPool
from pellucid.config import EngineConfig
from pellucid.kernels import RowKernels
from pellucid.model.decoder import Decoder
from pellucid.model.spec import ModelSpec
from pellucid.request import Row, SamplingParams, SequenceStart, StepPlan
from pellucid.runner.executors import CudaGraphExecutor, EagerExecutor, Executor
from pellucid.runner.machine import Machine
from pellucid.runner.memory import Profile, make_pool, naming
from pellucid.runner.padded import PaddedInputs
from pellucid.runner.runner import Runner
from pellucid.runner.sequences import SequenceTable
from pellucid.runner.shapes import MOST_PADDING, Shapes
from pellucid.runner.steps import PaddedSteps, RaggedSteps, StepParts, Steps
from pellucid.sampling.sampler import EVERYTHING, Method, Sampler
from pellucid.sampling.state import SamplingState
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
    method: str
    """How its weights are multiplied, of `quant.linear.METHODS`."""
    attention: AttentionBackend
    drawing: Method
    kernels: RowKernels | None
    """None: there are no padded steps."""

    def runner(self, pool: KVPool, clock: Clock, graphs: bool) -> Runner:
        """A runner on `pool`."""
        return self.build(pool, clock, graphs)[0]

    def build(
        self, pool: KVPool, clock: Clock, graphs: bool
    ) -> tuple[Runner, Sequence[PaddedSteps]]:
        """A runner on `pool`, and those of its ways to run a step that are padded."""
        device, places = self.machine.device, self.config.max_seqs
        longest = max(self.context_length, MOST_PADDING)
        sequences = SequenceTable(places, -(-longest // pool.block_size), pool.spare_block)
        eos = self.spec.eos_token_ids
        state = SamplingState(places, self.spec.vocab_size, eos, device)
        parts = StepParts(
            model=self.model,
            cache=pool,
            sampler=Sampler(self.drawing, state),
            sequences=sequences,
            sampled=torch.zeros(places + 1, dtype=torch.int64, device=device),
        )
        padded = self._padded(parts, clock, graphs)
        if graphs and self.config.capture == "start":
            capture_all(padded)
        ways: list[Steps] = [*padded, RaggedSteps(parts, self.attention, clock)]
        return Runner(ways, sequences, parts.sampler, clock), padded

    def _padded(self, parts: StepParts, clock: Clock, graphs: bool) -> list[PaddedSteps]:
        if self.kernels is None or not isinstance(self.attention, PaddedAttention):
            return []
        device, max_seqs = self.machine.device, self.config.max_seqs
        prompts = self.machine.chunked_prefill or max_seqs * self.context_length
        inputs = PaddedInputs(
            Shapes(max_seqs, prompts + max_seqs),  # decoding rows do not count against the limit
            parts.sequences,
            block_size=parts.cache.block_size,
            spare_block=parts.cache.spare_block,
            attention=self.attention,
            device=device,
        )
        executor: Executor = CudaGraphExecutor(clock) if graphs else EagerExecutor()
        prepare = self.kernels.prepare
        return [
            PaddedSteps(
                parts, self.attention, clock, inputs=inputs, executor=executor, prepare=prepare
            )
        ]


def capture_all(padded: Sequence[PaddedSteps]) -> None:
    """Have every shape recorded before the first request."""
    with naming("graphs", "lower max_seqs, or set graphs off", "max_seqs"):
        for steps in padded:
            for shape in steps.inputs.shapes.all():
                steps.prepare(shape)


def compile_ahead(parts: Parts) -> None:
    """Compile what the first prompts and their first tokens need, all at once."""
    if parts.machine.is_gpu and parts.kernels is not None:
        with _naming_activations(), parts.kernels.ahead():
            walk(parts)


@torch.inference_mode()
def walk(parts: Parts) -> None:
    """Launch every kernel that the first steps launch, once; what is computed means nothing.

    Triton compiles a kernel anew for other numbers of rows up to 16, and beyond for numbers that 16
    divides or does not: there is a step of each kind. One layer of each kind is enough, and the
    last one, which leaves tokens out: the others launch the same kernels.
    """
    short = copy.copy(parts.model)
    *layers, last = parts.model.layers
    short.layers = [*{(layer.shape, layer.rope): layer for layer in layers}.values(), last]
    tokens = min(_PROFILED, parts.context_length)
    num_blocks = -(-tokens // parts.machine.block_size)
    pool = make_pool(num_blocks, parts.spec, parts.machine)
    runner, padded = replace(parts, model=short).build(pool, NullClock(), graphs=False)
    runner.launch(_profile_plan(tokens, num_blocks))
    for steps in padded:
        for shape in steps.inputs.shapes.of_each_kernel(tokens):
            steps.inputs.fill([], shape)
            steps.step(shape)


@torch.inference_mode()
def measure(parts: Parts) -> Profile:
    """What the largest steps take on a GPU; on a CPU, where nothing is set aside, nothing."""
    machine = parts.machine
    if not machine.is_gpu:
        return Profile()
    most = min(machine.chunked_prefill or parts.context_length, parts.context_length)
    tokens = min(most, _PROFILED)
    num_blocks = -(-tokens // machine.block_size)
    with _naming_activations():
        before = torch.cuda.memory_allocated()
        pool = make_pool(num_blocks, parts.spec, machine)
        runner, padded = parts.build(pool, NullClock(), graphs=False)
        tables = torch.cuda.memory_allocated() - before - pool.nbytes
        half, whole = (
            _peak_of(partial(_run_once, runner, length, num_blocks))
            for length in (max(1, tokens // 2), tokens)
        )
        set_aside = 0
        for steps in padded:
            for shape in steps.inputs.shapes.largest():
                shape = shape._replace(draw=EVERYTHING)
                set_aside = max(set_aside, _peak_of(partial(steps.prepare, shape)))
    return Profile(activations=extrapolate(half, whole, tokens, most) + tables, set_aside=set_aside)


def _run_once(runner: Runner, length: int, num_blocks: int) -> None:
    runner.run(_profile_plan(length, num_blocks))
    runner.forget()


def extrapolate(half: int, whole: int, tokens: int, most: int) -> int:
    """Bytes that a step of `most` tokens takes, from what `tokens // 2` and `tokens` of them took.

    Through both goes one curve a·n + b·n²; b is that of attention that writes all its scores.
    """
    b = max(0.0, 2 * (whole - 2 * half) / tokens**2)
    a = max(0.0, whole / tokens - b * tokens)
    return int(a * most + b * most**2)


def _naming_activations() -> AbstractContextManager[None]:
    return naming("activations", "set chunked_prefill or max_seqs lower", "chunked_prefill")


def _profile_plan(tokens: int, num_blocks: int) -> StepPlan:
    """One prompt of `tokens` tokens, whose last chooses the next."""
    start = SequenceStart(
        seq_id=0,
        params=SamplingParams(temperature=0),
        seed=0,
        num_prompt=tokens,
        num_known=tokens,
    )
    row = Row(
        seq_id=0,
        tokens=[0] * tokens,
        start=0,
        new_blocks=list(range(num_blocks)),
        table_version=0,
        num_logits=1,
    )
    return StepPlan([row], [start])


def _peak_of(work: Callable[[], object]) -> int:
    """Bytes that `work` takes on the GPU at its peak, beyond what was taken before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return int(torch.cuda.max_memory_allocated() - before)
