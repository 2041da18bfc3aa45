#!/usr/bin/env python
"""Golden recordings of the KV cache, for the page (frontend/src/data/owners.ts) and its tests.

    python tests/golden/make_events.py

Writes frontend/tests/golden/events.json: for each of two settings what the scheduler told of some
requests over a small pool, as the page saves it, and beside each event the owners of all blocks as
the block manager has them. `small` has preemption, sharing and an abort; `recompute` has kv_cache
off. unit/test_events_golden.py makes them again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from test_scheduler import FakeRunner, add, make

from pellucid.events import PoolState
from pellucid.scheduler import Scheduler
from pellucid.trace import StepTrace, pool_state

VECTORS = Path(__file__).parents[2] / "frontend" / "tests" / "golden" / "events.json"
STEP_NS = 5_000_000
KV_BYTES = 46_080

Record = dict[str, Any]

REQUESTS = ((7, 12, 1), (18, 14, 3), (5, 24, 1), (11, 6, 1))
"""Tokens of the prompt, tokens of the answer, answers."""


def recording(num_blocks: int, aborted_at: int = -1, **options: Any) -> Record:
    """Requests that come one after the other, to the end of the last."""
    scheduler = make(num_blocks, **options)
    runner, clock = FakeRunner(4), iter(range(STEP_NS, 1_000 * STEP_NS, STEP_NS))
    first = msgspec.structs.replace(state_of(scheduler), ns=0)
    scheduler.trace = trace = StepTrace(first, now=lambda: next(clock))
    news: list[Any] = [first]
    owners = [owners_of(scheduler)]
    coming = list(enumerate(REQUESTS))
    for step in range(400):
        if coming and step % 4 == 0:
            number, (length, max_tokens, n) = coming.pop(0)
            prompt = [1 + (number + k) % 22 for k in range(length)]
            add(scheduler, f"cmpl-{number}", prompt, max_tokens=max_tokens, n=n, ignore_eos=True)
        if step == aborted_at:
            scheduler.abort("cmpl-2")
        if not scheduler.has_work and not coming:
            break
        plan = scheduler.plan()
        scheduler.commit(plan, runner.run(plan))
        trace.close()
        events = trace.take().events
        news += events
        owners += [owners_of(scheduler) for _ in events]
    file = {"schema": 1, "kind": "pellucid-events", "model": "smollm2"}
    file |= {"kv_bytes_per_token": KV_BYTES, "news": msgspec.to_builtins(news)}
    return {"file": file, "owners": owners}


def state_of(scheduler: Scheduler) -> PoolState:
    return pool_state(scheduler.pool, scheduler.running, scheduler.waiting)


def owners_of(scheduler: Scheduler) -> dict[str, list[int]]:
    """Block → the sequences that hold it, from the block tables themselves."""
    found: dict[int, list[int]] = {}
    for sequence in scheduler.running:
        for block in sequence.table.blocks:
            found.setdefault(block, []).append(sequence.number)
    return {str(block): sorted(numbers) for block, numbers in sorted(found.items())}


def make_all() -> dict[str, Record]:
    return {
        "small": recording(20, aborted_at=18, max_seqs=5, chunked_prefill=16),
        "recompute": recording(40, kv_cache="off", chunked_prefill=0),
    }


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(make_all(), separators=(",", ":")) + "\n")
