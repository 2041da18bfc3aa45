"""The engine: composition root and main loop.

`assemble` is the only place where implementations are chosen; `Engine.step` is the whole loop.
Follow the three calls and you have seen everything that happens to a token.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from pellucid.attention import Heads, choose_attention, make_attention
from pellucid.cache.blocks import BlockPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.features import FEATURES, check_conflicts, excluded
from pellucid.kernels import make_draw, make_units
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.model.decoder import Decoder, Loader
from pellucid.model.spec import ModelSpec
from pellucid.model.weights import dense_bytes
from pellucid.quant.linear import choose_method
from pellucid.request import EngineInfo, EngineStats, Output, Request, StepPlan
from pellucid.runner.build import Parts, compile_ahead, measure
from pellucid.runner.lanes import Lane, OverlapLane, SerialLane
from pellucid.runner.machine import Machine, choose_machine, device_name
from pellucid.runner.memory import (
    check_weights_fit,
    kv_bytes_per_token,
    make_pool,
    naming,
    plan_memory,
)
from pellucid.sampling.sampler import Draw, Sampler, draw_by_inversion
from pellucid.scheduler import Scheduler
from pellucid.stages import Clock, NullClock
from pellucid.text.stream import open_text


class Engine:
    """One model, one KV pool, many requests. Not thread-safe: one caller adds, aborts and steps."""

    def __init__(
        self,
        config: EngineConfig,
        checkpoint: Checkpoint | None = None,
        clock: Clock | None = None,
    ) -> None:
        spare_the_collector()
        checkpoint = checkpoint or open_checkpoint(config)
        spec = checkpoint.spec
        machine = choose_machine(config)
        context_length = fit_context(config.context_length, spec)
        parts, switches = assemble(config, checkpoint, machine, context_length)
        compile_ahead(parts)
        memory = plan_memory(config, spec, machine, context_length, measure(parts))

        self.config = config
        self.checkpoint = checkpoint
        self.clock = clock or NullClock()
        self.lane: Lane = OverlapLane() if switches["overlap"] == "on" else SerialLane()
        self.scheduler = Scheduler(
            config,
            BlockPool(memory.num_blocks, machine.block_size),
            context_length=context_length,
            eos_token_ids=spec.eos_token_ids,
            chunk=machine.chunked_prefill,
        )
        with naming("KV cache", "set memory or num_blocks lower", "memory"):
            pool = make_pool(memory.num_blocks, spec, machine)
        self.runner = parts.runner(pool, self.clock, graphs=switches["graphs"] == "on")
        self.info = EngineInfo(
            model=checkpoint.name,
            context_length=context_length,
            vocab_size=spec.vocab_size,
            block_size=machine.block_size,
            num_blocks=memory.num_blocks,
            device=str(machine.device),
            dtype=str(machine.dtype).removeprefix("torch."),
            weights=switches["weights"],
            switches=switches,
            eos_token_ids=spec.eos_token_ids,
            device_name=device_name(machine.device),
            weight_bytes=parts.model.weight_bytes,
            kv_bytes_per_token=kv_bytes_per_token(spec, machine.kv_format),
            ledger=memory.ledger(parts.model.weight_bytes),
        )
        self._counts = EngineStats(num_blocks=memory.num_blocks)

    def add(self, request: Request) -> None:
        """Queue a request; `InputError` if it is bad or could never fit."""
        self._check_tokens(request)
        tokenizer = self.checkpoint.tokenizer
        self.scheduler.add(request, lambda: open_text(tokenizer, request.params))

    def abort(self, request_id: str) -> None:
        """Drop a request and free its blocks; one that is unknown or has ended is no error."""
        self.scheduler.abort(request_id)

    def step(self) -> list[Output]:
        """Move every sequence on by what the budget allows; returns what is new."""
        plan = self.scheduler.plan() if self._may_run_ahead() else StepPlan()
        self.clock.lap("schedule")
        flight = self.lane.turn(self.runner.launch(plan) if plan.rows else None)
        if flight is None:
            return self._wait(plan)
        outputs = self.scheduler.commit(flight.plan, flight.land())
        self._count(flight.plan.num_tokens, outputs)
        self.clock.lap("detokenize")
        return outputs

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

    def _may_run_ahead(self) -> bool:
        """Whether the next step may be launched before the one in flight has landed: not if it is
        of a kind that has to be recorded first, which would hold up the tokens of that one."""
        return not self.lane.busy or self.runner.is_recorded(len(self.scheduler.running))

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


def assemble(
    config: EngineConfig, checkpoint: Checkpoint, machine: Machine, context_length: int
) -> tuple[Parts, dict[str, str]]:
    """Choose every implementation and load the weights; also what each switch came to."""
    check_conflicts(switches_of(config))
    spec, device, dtype = checkpoint.spec, machine.device, machine.dtype
    heads = Heads(spec.num_heads, spec.num_kv_heads, spec.head_dim, machine.block_size)
    check_weights_fit(dense_bytes(spec, dtype), machine)
    weights = checkpoint.weights(dtype, device)
    method = choose_method(config.weights, device, weights)
    units, chosen = make_units(config.fused_kernels, config.gemv, device, dtype)
    attention = choose_attention(config.attention, device, dtype, heads)
    sampler, kernels = make_draw(config.sampler, device)
    chosen |= {"weights": method, "attention": attention, "sampler": sampler}
    chosen |= choose_pace(config, machine, chosen)
    with naming("weights", "take a smaller model or a 16-bit dtype", "model"):
        load = Loader(spec, weights, dtype, device, method, units)
        model = Decoder(spec, load, context_length)
    parts = Parts(
        config,
        spec,
        machine,
        context_length,
        model,
        make_attention(attention, device, dtype, heads),
        Sampler(spec.eos_token_ids, make_sampler(sampler)),
        kernels,
    )
    return parts, {**switches_of(config), **chosen}


@cache
def spare_the_collector() -> None:
    """Have Python's collector never again look at what is there now, above all torch's modules, and
    seldom at the rest.

    Once in a process is enough: engines, which come and go, are left to it. A full collection
    visits every object that the process holds and stops everything meanwhile: tens of milliseconds,
    several steps long. A step makes a few short-lived objects for each row: with Python's own
    thresholds that is a collection in every step, and a full one every few seconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def switches_of(config: EngineConfig) -> dict[str, str]:
    """The switches as they were asked for."""
    return {feature.key: str(getattr(config, feature.key)) for feature in FEATURES}


def choose_pace(config: EngineConfig, machine: Machine, chosen: dict[str, str]) -> dict[str, str]:
    """What `graphs` and `overlap` come to, given the other switches."""
    if config.graphs == "on" and not machine.is_gpu:
        raise InputError("graphs on: CUDA graphs need an NVIDIA GPU", param="graphs")
    settled = {**switches_of(config), **chosen}
    pace = {}
    for key in ("graphs", "overlap"):
        wanted = getattr(config, key)
        possible = not excluded(key, settled)
        if wanted == "on" and not possible:
            check_conflicts({**settled, key: "on"})
        pace[key] = (
            "on"
            if possible and (wanted == "on" or (wanted == "auto" and machine.is_gpu))
            else "off"
        )
    if config.capture == "start" and pace["graphs"] == "off":
        raise InputError(
            "capture start: graphs is off here, so there is nothing to capture; leave capture out",
            param="capture",
        )
    return pace


def make_sampler(sampler: str) -> Draw:
    """How tokens are drawn."""
    if sampler == "sort":
        return draw_by_inversion
    from pellucid.sampling.pivot import draw_by_noise  # Triton loads only where it runs

    return draw_by_noise


def fit_context(wanted: int, spec: ModelSpec) -> int:
    """The context length to serve, in tokens."""
    if wanted > spec.context_length:
        raise InputError(
            f"context_length {wanted} is more than the model's {spec.context_length}",
            param="context_length",
        )
    return wanted or spec.context_length
