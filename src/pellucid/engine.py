"""The engine: composition root and main loop.

The constructor takes four steps: settle what everything comes to (`resolve.py`), load the weights,
plan the memory, build what runs on it. `Engine.step` is the whole loop. Follow the two and you have
seen everything that happens to a token.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pellucid.attention import Heads, make_attention
from pellucid.cache.blocks import BlockPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.kernels import make_row_kernels, make_units
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.model.decoder import Decoder, Loader
from pellucid.model.weights import dense_bytes
from pellucid.quant.linear import in_strips
from pellucid.request import EngineInfo, EngineStats, Output, Request, StepPlan
from pellucid.resolve import Resolved, resolve
from pellucid.runner.build import Parts, compile_ahead, measure
from pellucid.runner.machine import device_name, look_around, machine_of, use_threads
from pellucid.runner.memory import (
    MemoryPlan,
    check_weights_fit,
    kv_bytes_per_token,
    make_pool,
    naming,
    plan_memory,
)
from pellucid.runner.pipeline import OverlapPipeline, Pipeline, SerialPipeline
from pellucid.runner.runner import RunningStep
from pellucid.sampling.inversion import Inversion
from pellucid.sampling.sampler import Method
from pellucid.scheduler import Scheduler
from pellucid.stages import Clock, Laps, NullClock
from pellucid.text.stream import open_text

logger = logging.getLogger(__name__)


class Engine:
    """One model, one KV pool, many requests. Not thread-safe: one caller adds, aborts and steps."""

    def __init__(
        self,
        config: EngineConfig,
        checkpoint: Checkpoint | None = None,
        clock: Clock | None = None,
    ) -> None:
        start = Laps()
        checkpoint = checkpoint or open_checkpoint(config)
        start.lap("checkpoint")
        resolved = resolve_here(config, checkpoint)
        use_threads(config.threads)
        start.lap("device")
        parts = load(config, checkpoint, resolved)
        start.lap("weights")
        compile_ahead(parts)
        start.lap("kernels")
        memory = plan_memory(
            config, checkpoint.spec, parts.machine, resolved.context_length, measure(parts)
        )

        start.lap("memory")

        self.config = config
        self.checkpoint = checkpoint
        self.clock = clock or NullClock()
        self.pipeline: Pipeline = SerialPipeline()
        if resolved.overlap == "on":
            self.pipeline = OverlapPipeline()
        self.scheduler = Scheduler(
            config,
            BlockPool(memory.num_blocks, resolved.block_size),
            context_length=resolved.context_length,
            eos_token_ids=checkpoint.spec.eos_token_ids,
            chunk=resolved.chunked_prefill,
        )
        with naming("KV cache", "set memory or num_blocks lower", "memory"):
            pool = make_pool(memory.num_blocks, checkpoint.spec, parts.machine)
        self.runner = parts.runner(pool, self.clock, graphs=resolved.graphs == "on")
        start.lap("steps")
        self.info = describe(checkpoint, resolved, parts, memory, start)
        self._counts = EngineStats(num_blocks=memory.num_blocks)

    def add(self, request: Request, *, last: bool = False) -> None:
        """Queue a request; `InputError` if it is bad or could never fit.

        last: no other request will follow soon, so that static or dynamic batching need not wait
        for a full batch.
        """
        self._check_tokens(request)
        tokenizer = self.checkpoint.tokenizer
        self.scheduler.add(request, lambda: open_text(tokenizer, request.params))
        self.scheduler.expects_more = not last

    def abort(self, request_id: str) -> None:
        """Drop a request and free its blocks; one that is unknown or has ended is no error."""
        self.scheduler.abort(request_id)

    def step(self) -> list[Output]:
        """Move every sequence on by what the budget allows; returns what is new."""
        plan, step = self._plan(), None
        self.clock.lap("schedule")
        try:
            self.pipeline.push(self.runner.launch(plan) if plan.rows else None)
            step = self.pipeline.pop()
            result = step.wait() if step is not None else None
        except Exception as error:
            return self._recover(error, plan, step)
        if step is None or result is None:
            return self._wait(plan)
        outputs = self.scheduler.commit(step.plan, result)
        self._count(step.plan.num_tokens, outputs)
        self.clock.lap("detokenize")
        return outputs

    def drain(self) -> list[Output]:
        """Step until no step is in flight: after all requests have ended or were aborted, this
        leaves the engine idle. Returns what is new."""
        outputs: list[Output] = []
        while self.pipeline.is_busy:
            outputs += self.step()
        return outputs

    def prepare(self) -> bool:
        """Use a moment without work to make the next requests faster; False if that is done.

        On a GPU with graphs, each call records a step that is likely to come, in some 30 ms.
        """
        self.drain()
        if self.runner.has_missing:
            self.runner.prepare_missing()
            return True
        return self.runner.prepare_ahead()

    @contextmanager
    def timed(self, clock: Clock) -> Iterator[None]:
        """Inside, the time of every stage goes to `clock`."""
        before = self.clock
        self._use(clock)
        try:
            yield
        finally:
            self._use(before)

    def pretend(self, request_id: str, computed: int) -> None:
        """Have a waiting request begin as if `computed` tokens of its prompt were stored already.

        For measuring: what a step at some length costs does not depend on what the keys and values
        are, so there is no need to compute them first. The answer means nothing.
        """
        self.scheduler.pretend(request_id, computed)

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def stats(self) -> EngineStats:
        scheduler, counts = self.scheduler, self._counts
        counts.num_running = len(scheduler.running)
        counts.num_waiting = len(scheduler.waiting)
        counts.num_blocks_used = scheduler.pool.num_used
        counts.num_preemptions = scheduler.num_preemptions
        return counts

    def _use(self, clock: Clock) -> None:
        self.clock = clock
        self.runner.use(clock)

    def _plan(self) -> StepPlan:
        """The next step; nothing, while the step in flight has to land first.

        A kind of step that has just run for the first time gets its graph now, and recording one
        with a step in flight would hold up that step's tokens.
        """
        if self.runner.has_missing:
            if self.pipeline.is_busy:
                return StepPlan()
            self.runner.prepare_missing()
        return self.scheduler.plan()

    def _recover(
        self, error: Exception, plan: StepPlan, waited_for: RunningStep | None
    ) -> list[Output]:
        """A step has failed: end the request that caused it, and have all others computed again.

        Out of memory, smaller steps are tried first. Raises if the device is lost as well.
        """
        logger.error("a step failed; its requests are tried again one by one", exc_info=error)
        lost, outputs = [plan], list[Output]()
        for step in self.pipeline.clear():
            if waited_for is None:  # launching failed: what was in flight may still land
                outputs += self._land(step, lost)
        if waited_for is not None:
            lost.append(waited_for.plan)
        self.runner.forget()
        num_tokens = max(each.num_tokens for each in lost)
        if isinstance(error, torch.OutOfMemoryError) and self.scheduler.shrink(num_tokens):
            self.scheduler.restart()
            return outputs
        return outputs + self.scheduler.failed(lost, f"{type(error).__name__}: {error}")

    def _land(self, step: RunningStep, lost: list[StepPlan]) -> list[Output]:
        """What a step found whose successor failed; if it fails too, its plan is lost."""
        try:
            return self.scheduler.commit(step.plan, step.wait())
        except Exception as error:
            logger.error("the step before it failed as well", exc_info=error)
            lost.append(step.plan)
            return []

    def _wait(self, plan: StepPlan) -> list[Output]:
        """Nothing has landed: the first step has just begun, or a batch is still filling."""
        if self.has_work and not plan.rows:
            time.sleep(0.001)
        return []

    def _count(self, num_tokens: int, outputs: list[Output]) -> None:
        num_output = sum(len(output.token_ids) for output in outputs)
        self._counts.num_steps += 1
        self._counts.num_output_tokens += num_output
        self._counts.num_computed_tokens += num_tokens

    def _check_tokens(self, request: Request) -> None:
        vocab = self.info.vocab_size
        params = request.params
        ends = {*params.stop_token_ids, *(() if params.ignore_eos else self.info.eos_token_ids)}
        if params.min_tokens and sum(0 <= token < vocab for token in ends) == vocab:
            raise InputError(
                "min_tokens with these stop_token_ids forbids every token of the vocabulary",
                param="stop_token_ids",
            )
        for param, ids in (
            ("prompt", request.prompt_token_ids),
            ("stop_token_ids", params.stop_token_ids),
            ("logit_bias", params.logit_bias),
        ):
            for token in ids:
                if not 0 <= token < vocab:
                    raise InputError(
                        f"token id {token} in {param} is not in the vocabulary of {vocab} tokens",
                        param=param,
                    )


def resolve_here(config: EngineConfig, checkpoint: Checkpoint) -> Resolved:
    """What `config` comes to on this machine; reads no weight."""
    facts = look_around(config.device)
    return resolve(config, checkpoint.spec, facts, checkpoint.layer_kinds)


def load(config: EngineConfig, checkpoint: Checkpoint, resolved: Resolved) -> Parts:
    """Load the weights, and make everything that does not depend on the memory they leave."""
    spec, machine = checkpoint.spec, machine_of(resolved)
    device, dtype = machine.device, machine.dtype
    check_weights_fit(dense_bytes(spec, dtype), machine)
    fused, gemv = resolved.fused_kernels == "on", resolved.gemv == "on"
    invariant = resolved.batch_invariant == "on"
    with naming("weights", "take a smaller model or a 16-bit dtype", "model"):
        loader = Loader(
            spec=spec,
            weights=checkpoint.weights(dtype, device),
            dtype=dtype,
            device=device,
            method=in_strips(resolved.weights) if invariant else resolved.weights,
            units=make_units(fused, gemv, device, dtype),
        )
        model = Decoder(spec, loader, resolved.context_length)
    heads = Heads(spec.num_heads, spec.num_kv_heads, spec.head_dim, machine.block_size)
    return Parts(
        config=config,
        spec=spec,
        machine=machine,
        context_length=resolved.context_length,
        model=model,
        attention=make_attention(resolved.attention, device, dtype, heads, invariant),
        drawing=make_sampler(resolved.sampler),
        kernels=make_row_kernels() if resolved.has_gpu_kernels else None,
    )


def describe(
    checkpoint: Checkpoint, resolved: Resolved, parts: Parts, memory: MemoryPlan, start: Laps
) -> EngineInfo:
    """What the engine turned out to be."""
    spec, machine, model = checkpoint.spec, parts.machine, parts.model
    return EngineInfo(
        model=checkpoint.name,
        context_length=resolved.context_length,
        vocab_size=spec.vocab_size,
        block_size=resolved.block_size,
        num_blocks=memory.num_blocks,
        device=resolved.device,
        dtype=resolved.dtype,
        switches=resolved.switches,
        batch_invariant=resolved.batch_invariant,
        why=dict(resolved.why),
        eos_token_ids=spec.eos_token_ids,
        device_name=device_name(machine.device),
        weight_bytes=model.weight_bytes,
        head_bytes=model.head.nbytes,
        kv_bytes_per_token=kv_bytes_per_token(spec, machine.kv_format),
        ledger=memory.ledger(model.weight_bytes),
        start_s=start.seconds,
    )


def make_sampler(sampler: str) -> Method:
    """How tokens are drawn."""
    if sampler == "sort":
        return Inversion()
    from pellucid.sampling.pivot import Pivot  # Triton loads only where it runs

    return Pivot()
