"""The engine: composition root and main loop.

`Engine.__init__` is the only place where implementations are chosen; `Engine.step` is the whole
loop. Follow the three calls and you have seen everything that happens to a token.
"""

from __future__ import annotations

import time

from pellucid.attention import make_attention
from pellucid.cache.blocks import BlockPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.kernels import make_ops
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.model.decoder import Decoder, Loader
from pellucid.model.spec import ModelSpec
from pellucid.quant.linear import choose_method
from pellucid.request import EngineInfo, EngineStats, Output, Request
from pellucid.runner.machine import choose_machine
from pellucid.runner.memory import make_pool, plan_memory
from pellucid.runner.runner import Runner
from pellucid.sampling.sampler import Sampler
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
        checkpoint = checkpoint or open_checkpoint(config)
        spec = checkpoint.spec
        machine = choose_machine(config)
        weights = checkpoint.weights(machine.dtype, machine.device)
        method = choose_method(config.weights, machine.device, weights)
        context_length = fit_context(config.context_length, spec)
        ops = make_ops(config.fused_kernels, machine.device, machine.dtype)
        load = Loader(spec, weights, machine.dtype, machine.device, method, ops)
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
        self.runner = Runner(
            model,
            make_pool(memory, config, spec, machine),
            make_attention(config.attention, machine.device, machine.dtype),
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
        """Queue a request; `InputError` if it is bad or could never fit."""
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


def fit_context(wanted: int, spec: ModelSpec) -> int:
    """The context length to serve, in tokens."""
    if wanted > spec.context_length:
        raise InputError(
            f"context_length {wanted} is more than the model's {spec.context_length}",
            param="context_length",
        )
    return wanted or spec.context_length
