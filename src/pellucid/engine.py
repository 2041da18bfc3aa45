"""The engine: requests in, tokens out, a step at a time.

The constructor has the parts made (`assembly.py`) and a scheduler over them; `Engine.step` is the
whole loop; `Engine.switch` puts other parts around the same weights while answers are being made.
Follow the three and you have seen everything that happens to a token.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pellucid.assembly import Assembly, assemble, describe, resolve_here
from pellucid.cache.blocks import BlockPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.events import PoolState
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.request import EngineInfo, EngineStats, Output, Request, StepPlan
from pellucid.runner.build import Parts
from pellucid.runner.memory import naming
from pellucid.runner.runner import RunningStep
from pellucid.scheduler import Scheduler
from pellucid.stages import Clock, Laps, NullClock
from pellucid.switching import switched
from pellucid.text.stream import open_text
from pellucid.trace import NullTrace, StepTrace, Trace, pool_state

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
        self.checkpoint = checkpoint or open_checkpoint(config)
        self.clock = clock or NullClock()
        start.lap("checkpoint")
        self._put_together(assemble(config, self.checkpoint, start), start)
        resolved, pool = self._made.resolved, self._made.pool
        self.scheduler = Scheduler(
            config,
            BlockPool(pool.num_blocks, resolved.block_size),
            context_length=resolved.context_length,
            eos_token_ids=self.checkpoint.spec.eos_token_ids,
            chunk=resolved.chunked_prefill,
        )
        self._counts = EngineStats(num_blocks=pool.num_blocks)
        self._landed: list[Output] = []
        """Outputs of steps that were in flight when a switch was changed."""

    @property
    def config(self) -> EngineConfig:
        """What is asked for; `info` is what it came to."""
        return self._made.config

    @property
    def parts(self) -> Parts:
        """What its steps are made of, for whoever looks inside; they change with a switch."""
        return self._made.parts

    def switch(self, **choices: Any) -> EngineInfo:
        """Go on with other switches: `engine.switch(kv_cache="off")`. Returns what they came to.

        Answers that are being made go on with them, computing their tokens' keys and values again.
        `InputError` for what cannot be had here; then all is as it was.
        """
        config = switched(self.config, choices)
        resolve_here(config, self.checkpoint)
        self._land_all()
        before = self._made
        del self.runner, self.pipeline  # and with them their graphs, whose memory others may need
        start = Laps()
        try:
            with naming("the other parts", "start with a lower memory or max_seqs", "memory"):
                self._put_together(assemble(config, self.checkpoint, start, before), start)
        except Exception:
            self._put_together(before, start)
            raise
        finally:
            self.scheduler.switch(self.config, self._made.resolved.chunked_prefill)
        return self.info

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
        outputs = self._step()
        self.trace.close()
        return outputs

    def _step(self) -> list[Output]:
        if self._landed:
            outputs, self._landed = self._landed, []
            return outputs
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

    @property
    def trace(self) -> Trace:
        """Where the scheduler writes down what it does; see `watch`."""
        return self.scheduler.trace

    def watch(self) -> PoolState:
        """From here on `trace` makes an event of each step, on top of the state returned."""
        scheduler, before = self.scheduler, self.trace
        step = max(before.step, self._counts.num_steps)
        state = pool_state(
            scheduler.pool, scheduler.running, scheduler.waiting, last_id=before.last_id, step=step
        )
        scheduler.trace = StepTrace(state)
        return state

    def unwatch(self) -> None:
        """Nobody wants the events any more."""
        self.scheduler.trace = NullTrace(self.trace.last_id, self.trace.step)

    def pretend(self, request_id: str, computed: int) -> None:
        """Have a waiting request begin as if `computed` tokens of its prompt were stored already.

        For measuring: what a step at some length costs does not depend on what the keys and values
        are, so there is no need to compute them first. The answer means nothing.
        """
        self.scheduler.pretend(request_id, computed)

    def touch(self, num_tokens: int) -> Iterator[None]:
        """Write zeros to so many tokens' worth of the KV cache's first blocks, a layer at a time.

        For measuring: memory that nobody ever wrote is not there yet on a CPU. No sequence may have
        blocks.
        """
        assert not self.scheduler.pool.num_used, "a sequence has blocks"
        num_blocks = -(-num_tokens // self.info.block_size)
        for layer in self._made.pool.layers:
            layer.keys[:num_blocks].zero_()
            layer.values[:num_blocks].zero_()
            yield

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work or bool(self._landed)

    def stats(self) -> EngineStats:
        scheduler, counts = self.scheduler, self._counts
        counts.num_running = len(scheduler.running)
        counts.num_waiting = len(scheduler.waiting)
        counts.num_blocks_used = scheduler.pool.num_used
        counts.num_preemptions = scheduler.num_preemptions
        return counts

    def _put_together(self, made: Assembly, start: Laps) -> None:
        """Run on these parts from here on."""
        self._made = made
        self.runner, self.pipeline = made.runner(self.clock), made.pipeline()
        start.lap("steps")
        self.info = describe(self.checkpoint, made, start)

    def _land_all(self) -> None:
        """Wait for the steps in flight, without launching others."""
        lost: list[StepPlan] = []
        for step in self.pipeline.clear():
            self._landed += self._land(step, lost)
        if lost:
            self._landed += self.scheduler.failed(lost, "a step failed while a switch was changed")

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
            outputs = self.scheduler.commit(step.plan, step.wait())
        except Exception as error:
            logger.error("the step before it failed as well", exc_info=error)
            lost.append(step.plan)
            return []
        self._count(step.plan.num_tokens, outputs)
        return outputs

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
