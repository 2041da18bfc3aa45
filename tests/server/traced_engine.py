"""The real scheduler and its events over no model at all: every token is an `a`."""

from __future__ import annotations

import time

from fake_engine import BLOCK_SIZE, CONTEXT_LENGTH, FakeEngine

from pellucid.cache.blocks import BlockPool
from pellucid.config import EngineConfig
from pellucid.events import PoolState
from pellucid.request import EngineStats, Output, Request, RowResult, StepResult
from pellucid.scheduler import Scheduler
from pellucid.text.stream import open_text
from pellucid.trace import NullTrace, StepTrace, pool_state


class TracedEngine(FakeEngine):
    def __init__(self, *, num_blocks: int = 64, step_s: float = 0.0) -> None:
        super().__init__(step_s=step_s)
        self.scheduler = Scheduler(
            EngineConfig(max_seqs=4),
            BlockPool(num_blocks, BLOCK_SIZE),
            context_length=CONTEXT_LENGTH,
            eos_token_ids=(),
            chunk=0,
        )
        self.num_traces = 0
        """How often somebody began to watch."""

    def add(self, request: Request) -> None:
        self.scheduler.add(request, lambda: open_text(None, request.params))

    def abort(self, request_id: str) -> None:
        self.scheduler.abort(request_id)

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def step(self) -> list[Output]:
        time.sleep(self.step_s)
        plan = self.scheduler.plan()
        found = StepResult([RowResult([97] if row.samples else []) for row in plan.rows])
        outputs = self.scheduler.commit(plan, found)
        self.trace.close()
        return outputs

    def watch(self) -> PoolState:
        scheduler, before = self.scheduler, self.trace
        state = pool_state(
            scheduler.pool,
            scheduler.running,
            scheduler.waiting,
            last_id=before.last_id,
            step=before.step,
        )
        self.trace = scheduler.trace = StepTrace(state)
        self.num_traces += 1
        return state

    def unwatch(self) -> None:
        self.trace = self.scheduler.trace = NullTrace(self.trace.last_id, self.trace.step)

    def stats(self) -> EngineStats:
        return EngineStats(num_waiting=len(self.scheduler.waiting))
