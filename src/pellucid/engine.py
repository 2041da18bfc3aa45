"""The engine: composition root and main loop.

`Engine.__init__` is the only place where implementations are chosen; `Engine.step` is the whole
loop. Follow the three calls and you have seen everything that happens to a token.
"""

from __future__ import annotations

import os
import time

from dataclasses import dataclass

import psutil
import torch

from pellucid.attention import make_attention
from pellucid.cache.blocks import BlockPool
from pellucid.cache.pool import KVPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.model.decoder import Decoder, Loader
from pellucid.model.spec import ModelSpec
from pellucid.quant.linear import choose_method
from pellucid.request import EngineInfo, EngineStats, Output, Request
from pellucid.runner.runner import Runner
from pellucid.sampling.sampler import Sampler
from pellucid.scheduler import Scheduler
from pellucid.stages import Clock, NullClock
from pellucid.text.stream import open_text

GIB = 2**30


class Engine:
    """One model, one KV pool, many requests. Not thread-safe: one caller adds, aborts and steps."""

    def __init__(
        self,
        config: EngineConfig,
        checkpoint: Checkpoint | None = None,
        clock: Clock | None = None,
    ) -> None:
        checkpoint = checkpoint or open_checkpoint(config)
        spec = checkpoint.spec
        machine = choose_machine(config)
        method = choose_method(config.weights, machine.device, checkpoint.weights())
        context_length = fit_context(config.context_length, spec)
        load = Loader(
            spec, checkpoint.weights(), dtype=machine.dtype, device=machine.device, method=method
        )
        model = Decoder(spec, load, context_length)
        memory = plan_memory(config, spec, machine, context_length)

        self.config = config
        self.checkpoint = checkpoint
        self.clock = clock or NullClock()
        self.scheduler = Scheduler(
            config,
            BlockPool(memory.num_blocks, config.block_size),
            context_length=context_length,
            eos_token_ids=spec.eos_token_ids,
        )
        cache = KVPool(
            num_layers=spec.num_layers,
            num_blocks=memory.num_blocks,
            block_size=config.block_size,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            dtype=machine.dtype,
            device=machine.device,
        )
        self.runner = Runner(
            model,
            cache,
            make_attention(config.attention),
            Sampler(spec.eos_token_ids),
            machine.device,
            self.clock,
        )
        self.info = EngineInfo(
            model=checkpoint.name,
            context_length=context_length,
            vocab_size=spec.vocab_size,
            block_size=config.block_size,
            num_blocks=memory.num_blocks,
            device=str(machine.device),
            dtype=str(machine.dtype).removeprefix("torch."),
            weights=method,
            eos_token_ids=spec.eos_token_ids,
            ledger=memory.ledger(model.weight_bytes, config),
        )
        self._counts = EngineStats(num_blocks=memory.num_blocks)

    def add(self, request: Request) -> None:
        """Queue a request; `InputError` if it is bad, could never fit, or too many wait."""
        self._check_tokens(request)
        tokenizer = self.checkpoint.tokenizer
        self.scheduler.add(request, lambda: open_text(tokenizer, request.params))

    def abort(self, request_id: str) -> None:
        """Drop a request and free its blocks; one that is unknown or has ended is no error."""
        self.scheduler.abort(request_id)

    def step(self) -> list[Output]:
        """Move every sequence on by what the budget allows; returns what is new."""
        plan = self.scheduler.plan()
        if not plan.rows:
            return self._wait()
        self.clock.lap("schedule")
        result = self.runner.run(plan)
        outputs = self.scheduler.commit(plan, result)
        self._count(plan.num_tokens, outputs)
        self.clock.lap("detokenize")
        return outputs

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

    def _wait(self) -> list[Output]:
        """Nothing may run yet: a static or dynamic batch is still filling."""
        if self.has_work:
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


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and in what numbers the model runs."""

    device: torch.device
    dtype: torch.dtype


def choose_machine(config: EngineConfig) -> Machine:
    """Resolve device and dtype "auto", and set the number of CPU threads."""
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: torch finds no usable GPU here; use --device cpu", param="device")
    if name == "cpu":
        torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if name == "cuda" or has_bf16_units() else "float32"
    return Machine(torch.device(name), getattr(torch, dtype))


def has_bf16_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware; without, it is slower than fp32."""
    capabilities = torch.backends.cpu.get_capabilities() if hasattr(torch.backends.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def fit_context(wanted: int, spec: ModelSpec) -> int:
    """The context length to serve, in tokens."""
    if wanted > spec.context_length:
        raise InputError(
            f"context_length {wanted} is more than the model's {spec.context_length}",
            param="context_length",
        )
    return wanted or spec.context_length


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How many blocks the KV cache gets, and why."""

    num_blocks: int
    block_bytes: int
    free_bytes: int

    def ledger(self, weight_bytes: int, config: EngineConfig) -> list[str]:
        tokens = self.num_blocks * config.block_size
        cache = self.num_blocks * self.block_bytes
        return [
            f"weights   {weight_bytes / GIB:7.2f} GiB",
            f"KV cache  {cache / GIB:7.2f} GiB   {self.num_blocks} blocks of {config.block_size} "
            f"tokens, {tokens} tokens",
            f"left free {max(0, self.free_bytes - cache) / GIB:7.2f} GiB",
        ]


_KV_SHARE = 0.5
"""Of the free memory, at most, for the KV cache on a CPU, which other programs share."""


def plan_memory(
    config: EngineConfig, spec: ModelSpec, machine: Machine, context_length: int
) -> MemoryPlan:
    """Size the KV cache from memory that is really free; `InputError` if not one block fits."""
    block_bytes = config.block_size * spec.kv_bytes_per_token(machine.dtype.itemsize)
    free = free_memory(machine.device)
    useful = config.max_seqs * -(-context_length // config.block_size)
    if config.num_blocks:
        num_blocks = config.num_blocks
    elif config.memory:
        num_blocks = int(config.memory * GIB) // block_bytes
    else:
        num_blocks = min(useful, int(free * _KV_SHARE) // block_bytes)
    if num_blocks < 1 or num_blocks * block_bytes > free:
        raise InputError(
            f"a KV cache of {num_blocks} blocks takes {num_blocks * block_bytes / GIB:.2f} GiB of the "
            f"{free / GIB:.2f} GiB free (a block is {block_bytes / GIB:.4f} GiB): set memory, "
            "num_blocks or context_length to what fits",
            param="memory",
        )
    return MemoryPlan(num_blocks, block_bytes, free)


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on `device` now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)



