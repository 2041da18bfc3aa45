"""From a loaded model to a runner: first a small one to measure with, then the real one."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch

from pellucid.attention import AttentionBackend, PaddedAttention
from pellucid.cache.pool import KVPool
from pellucid.config import EngineConfig
from pellucid.kernels import DecodeKernels
from pellucid.model.decoder import Decoder
from pellucid.model.spec import ModelSpec
from pellucid.request import Row, SamplingParams, StepPlan
from pellucid.runner.clock import EventClock, RunClock, UntimedGraphs
from pellucid.runner.executors import CudaGraphExecutor, EagerExecutor, Executor
from pellucid.runner.inputs import SIZES, DecodeInputs
from pellucid.runner.machine import Machine
from pellucid.runner.memory import Profile, make_pool, naming
from pellucid.runner.runner import DecodeSteps, Runner
from pellucid.sampling.sampler import Sampler
from pellucid.stages import Clock, NullClock

_PROFILED = 2048
"""Tokens of the step that is measured: activations grow in proportion to the tokens."""


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
    """None: there are no padded decode steps."""

    def runner(self, pool: KVPool, clock: Clock, graphs: bool) -> Runner:
        """A runner on `pool`."""
        decode = self._decode(pool, clock, graphs)
        if decode is not None and graphs and self.config.capture == "start":
            self._capture_all(decode)
        return Runner(
            self.model,
            pool,
            self.attention,
            self.sampler,
            clock,
            self.machine.device,
            self.config.max_seqs,
            decode,
        )

    def _decode(self, pool: KVPool, clock: Clock, graphs: bool) -> DecodeSteps | None:
        if self.kernels is None or not isinstance(self.attention, PaddedAttention):
            return None
        device = self.machine.device
        max_blocks = -(-self.context_length // pool.block_size)
        inputs = DecodeInputs(self.config.max_seqs, max_blocks, pool.num_blocks - 1, device)
        executor: Executor = EagerExecutor()
        if graphs:
            timed: RunClock = clock if isinstance(clock, EventClock) else UntimedGraphs(clock)
            executor = CudaGraphExecutor(device, timed)
        return DecodeSteps(self.model, pool, self.attention, clock, inputs, executor, self.kernels)

    def _capture_all(self, decode: DecodeSteps) -> None:
        """Largest first, so that the smaller ones fit into the memory that it set aside."""
        sizes = [size for size in SIZES if size <= decode.capacity]
        with naming("graphs", "lower max_seqs, or set graphs off", "max_seqs"):
            for size in reversed(sizes):
                decode.capture(size)


@torch.inference_mode()
def compile_ahead(parts: Parts) -> None:
    """Compile what a first prompt and its first tokens need, all at once.

    One layer of each kind is enough: the others launch the same kernels.
    """
    kernels = parts.kernels
    if not parts.machine.is_gpu or kernels is None:
        return
    short = copy.copy(parts.model)
    short.layers = list({layer.shape: layer for layer in reversed(parts.model.layers)}.values())
    parts = replace(parts, model=short)
    tokens = min(_PROFILED, parts.context_length)
    num_blocks = -(-tokens // parts.machine.block_size)
    runner = parts.runner(make_pool(num_blocks, parts.spec, parts.machine), NullClock(), False)
    with kernels.ahead():
        runner.run(StepPlan([_profile_row(tokens, num_blocks)]))
        if runner.decode is not None:
            for size in (1, runner.decode.capacity):
                runner.decode.step(size)


@torch.inference_mode()
def measure(parts: Parts) -> Profile:
    """What the largest steps take on a GPU; on a CPU, where nothing is set aside, nothing."""
    machine, config = parts.machine, parts.config
    if not machine.is_gpu:
        return Profile()
    most = min(machine.chunked_prefill or parts.context_length, parts.context_length)
    tokens = min(most, _PROFILED)
    num_blocks = -(-tokens // machine.block_size)
    with naming("activations", f"set chunked_prefill below {most}", "chunked_prefill"):
        runner = parts.runner(make_pool(num_blocks, parts.spec, machine), NullClock(), False)
        plan = StepPlan([_profile_row(tokens, num_blocks)])
        before = _peak_from_here()
        runner.run(plan)
        ragged = (torch.cuda.max_memory_allocated() - before) * most // tokens
        before = _peak_from_here()
        graphs = 0
        if runner.decode is not None:
            runner.decode.step(runner.decode.capacity)
            graphs = torch.cuda.max_memory_allocated() - before
    # What the sampler may make of the logits when it has to truncate: a few copies in float32.
    logits = 4 * config.max_seqs * parts.spec.vocab_size * 4
    return Profile(activations=ragged + logits, graphs=graphs)


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


def _peak_from_here() -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.memory_allocated())
