"""A static batch that is not full starts at once when its caller says that nothing follows.

Static batching waits up to a second for a full batch. A benchmark that does not say that its last
prompt was the last one measures that second too. Here time stands still for the scheduler, so that
waiting would never end, and the engine may take so many steps only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid import LLM, SamplingParams
from pellucid.engine import Engine
from pellucid.explore.arms import ArmWorkload, run_requests
from pellucid.explore.bench import BenchWorkload, run_once
from pellucid.explore.cells import DECODE, PREFILL, Cell, Settings
from pellucid.explore.measure import CellBench, Side
from pellucid.request import Output, Request

MOST_STEPS = 100


@pytest.fixture
def llm(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> LLM:
    llm = LLM(str(tiny_folder), load_format="dummy", device="cpu", num_blocks=64, batching="static")
    engine, step, steps = llm.engine, llm.engine.step, iter(range(MOST_STEPS))

    def counted() -> list[Output]:
        assert next(steps, None) is not None, "the engine waits for requests that never come"
        return step()

    monkeypatch.setattr(engine, "step", counted)
    monkeypatch.setattr(engine.scheduler, "_now", lambda: 0.0)
    return llm


def bench(engine: Engine) -> None:
    work = BenchWorkload(num_prompts=3, prompt_len=4, output_len=3)
    assert run_once(engine, work, 0).num_decoded == 6


def arms(engine: Engine) -> None:
    assert run_requests(engine, ArmWorkload(prompt_len=4), 3, 4, 0).num_output >= 8


def cells(engine: Engine) -> None:
    settings = Settings(lengths=(16,), phases=(PREFILL, DECODE), blocks=1)
    for phase in (PREFILL, DECODE):
        assert CellBench(engine, settings).run(Cell(phase, 16, 2), 4, 0, [Side()]) > 0


@pytest.mark.parametrize("measure", [bench, arms, cells], ids=lambda f: str(f.__name__))
def test_what_measures_does_not_wait(measure: Callable[[Engine], None], llm: LLM) -> None:
    measure(llm.engine)
    assert not llm.engine.has_work


def test_the_library_does_not_wait(llm: LLM) -> None:
    params = SamplingParams(max_tokens=3, ignore_eos=True)
    assert len(llm.generate([[5], [6]], params)) == 2
    assert len(list(llm.stream([5], params))) == 3


def test_the_next_request_is_waited_for_again(llm: LLM) -> None:
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    llm.generate([[5], [6]], params)
    llm.engine.add(Request(id="early", prompt_token_ids=[5], params=params))
    assert not llm.engine.step() and not llm.engine.step()
    llm.engine.add(Request(id="late", prompt_token_ids=[6], params=params), last=True)
    assert {output.request_id for output in llm.engine.step()} == {"early", "late"}
