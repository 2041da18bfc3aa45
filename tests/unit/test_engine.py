"""The real engine on a model of made-up weights: order of events, failures, aborts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import LLM, InputError, SamplingParams
from pellucid.request import Output, Request, Row
from pellucid.runner.steps import Launched, RaggedSteps

PROMPTS = [[5, 9, 3], [8] * 21, [60, 2, 33, 7], [1, 1, 4]]
GREEDY = SamplingParams(temperature=0, max_tokens=9, ignore_eos=True)


def open_tiny(folder: Path, **options: Any) -> LLM:
    settings = {"load_format": "dummy", "device": "cpu", "dtype": "float32", "num_blocks": 64}
    return LLM(str(folder), **{**settings, **options})


def finish(llm: LLM) -> dict[str, Output]:
    """Step until all requests have ended; their whole outputs."""
    whole: dict[str, Output] = {}
    while llm.engine.has_work:
        for output in llm.engine.step():
            whole.setdefault(output.request_id, Output(request_id=output.request_id)).extend(output)
        llm.engine.scheduler.check_integrity()
    return whole


def ask(llm: LLM, name: str, prompt: list[int], params: SamplingParams = GREEDY) -> None:
    llm.engine.add(Request(id=name, prompt_token_ids=prompt, params=params))


class Watched(RaggedSteps):
    """Steps that want to be recorded whenever a new number of rows comes."""

    def __init__(self, llm: LLM, inner: RaggedSteps) -> None:
        self.__dict__.update(inner.__dict__)
        self._llm = llm
        self._recorded: set[int] = set()
        self._seen: set[int] = set()
        self.num_recorded = 0

    @property
    def has_missing(self) -> bool:  # type: ignore[override]
        return bool(self._seen - self._recorded)

    def prepare_missing(self) -> None:
        assert not self._llm.engine.pipeline.is_busy, "recorded while a step is in flight"
        self.num_recorded += len(self._seen - self._recorded)
        self._recorded |= self._seen

    def launch(self, rows: Sequence[Row]) -> Launched:
        assert self._seen <= self._recorded, "somebody waits for a recording that is put off"
        self._seen.add(len(rows))
        return super().launch(rows)


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_nothing_is_recorded_while_a_step_is_in_flight(overlap: str, tiny_folder: Path) -> None:
    llm = open_tiny(tiny_folder, overlap=overlap)
    expected = [llm.generate([prompt], GREEDY)[0].token_ids for prompt in PROMPTS]
    watched = Watched(llm, llm.engine.runner._ways[0])  # type: ignore[arg-type]
    llm.engine.runner._ways = [watched]
    said: dict[str, list[int]] = {str(i): [] for i in range(len(PROMPTS))}
    for i, prompt in enumerate(PROMPTS):
        ask(llm, str(i), prompt)
        for output in (*llm.engine.step(), *llm.engine.step()):
            said[output.request_id] += output.token_ids
    for name, output in finish(llm).items():
        said[name] += output.token_ids
    assert list(said.values()) == expected
    assert watched.num_recorded == len(watched._seen) >= 4


def test_an_aborted_sequence_in_flight_disturbs_nobody_who_takes_its_blocks(
    tiny_folder: Path,
) -> None:
    """Its step is launched, then its blocks and its place are given to another sequence."""
    llm = open_tiny(tiny_folder, overlap="on", num_blocks=4, block_size=8, max_seqs=1)
    expected = llm.generate([PROMPTS[1]], GREEDY)[0].token_ids
    ask(llm, "first", [7] * 20)
    llm.engine.step()  # launched, not landed
    assert llm.engine.pipeline.is_busy
    llm.engine.abort("first")
    ask(llm, "second", PROMPTS[1])
    whole = finish(llm)
    assert list(whole) == ["second"]
    assert whole["second"].token_ids == expected


class Fragile:
    """An attention backend that fails when it meets a context of `bad` tokens, or too many rows of
    queries at once."""

    def __init__(self, inner: Any, bad: int = -1, most: int = 10**9) -> None:
        self._inner, self._bad, self._most = inner, bad, most

    def prepare(self, rows: Any, device: torch.device) -> Any:
        if any(row.context == self._bad for row in rows):
            raise RuntimeError("an illegal instruction was met")
        if sum(row.num_new for row in rows) > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._inner.prepare(rows, device)

    def attend(self, *args: Any) -> torch.Tensor:
        return self._inner.attend(*args)  # type: ignore[no-any-return]


def plant(llm: LLM, **faults: int) -> None:
    way: Any = llm.engine.runner._ways[0]
    way._attention = Fragile(way._attention, **faults)


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_an_error_in_a_kernel_ends_the_request_that_caused_it(
    overlap: str, tiny_folder: Path
) -> None:
    llm = open_tiny(tiny_folder, overlap=overlap)
    expected = [llm.generate([prompt], GREEDY)[0].token_ids for prompt in PROMPTS]
    plant(llm, bad=25)  # met by the second prompt of 21 tokens when it has four more
    for i, prompt in enumerate(PROMPTS):
        ask(llm, str(i), prompt)
    whole = finish(llm)
    for i in (0, 2, 3):
        assert whole[str(i)].token_ids == expected[i]
        assert whole[str(i)].finish_reason == "length"
    guilty = whole["1"]
    assert (guilty.finish_reason, guilty.token_ids) == ("error", expected[1][:4])
    assert guilty.error == "RuntimeError: an illegal instruction was met"
    assert llm.engine.stats().num_blocks_used == 0
    ask(llm, "next", PROMPTS[0])
    assert finish(llm)["next"].token_ids == expected[0], "the next request is served"


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_out_of_memory_shrinks_the_steps(overlap: str, tiny_folder: Path) -> None:
    llm = open_tiny(tiny_folder, overlap=overlap, chunked_prefill=0)
    prompts = [[i + 2, 9] * 45 for i in range(3)]
    params = SamplingParams(temperature=0.8, seed=3, max_tokens=5, repetition_penalty=1.2)
    expected = [llm.generate([prompt], params)[0].token_ids for prompt in prompts]
    plant(llm, most=100)
    for i, prompt in enumerate(prompts):
        ask(llm, str(i), prompt, params)
    whole = finish(llm)
    assert [whole[str(i)].token_ids for i in range(3)] == expected
    assert all(output.error is None for output in whole.values())


def test_a_fault_of_the_hosts_own_logic_is_not_hidden(tiny_folder: Path) -> None:
    llm = open_tiny(tiny_folder)
    ask(llm, "a", PROMPTS[0])
    llm.engine.scheduler.plan = lambda: 1 / 0  # type: ignore[method-assign,return-value,assignment]
    with pytest.raises(ZeroDivisionError):
        llm.engine.step()


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_logits_that_are_no_numbers_end_their_request_with_the_reason(
    overlap: str, tiny_folder: Path
) -> None:
    llm = open_tiny(tiny_folder, overlap=overlap)
    expected = llm.generate([PROMPTS[0]], GREEDY)[0].token_ids
    way: Any = llm.engine.runner._ways[0]
    attention = way._attention

    class Poisoned:
        def prepare(self, rows: Any, device: torch.device) -> Any:
            ill = [row.queries for row in rows if row.context == 23]
            return ill, attention.prepare(rows, device)

        def attend(self, q: Any, layer: Any, rows: Any, shape: Any) -> torch.Tensor:
            out = attention.attend(q, layer, rows[1], shape)
            for queries in rows[0]:
                out[queries] = float("nan")
            return out  # type: ignore[no-any-return]

    way._attention = Poisoned()
    ask(llm, "sound", PROMPTS[0])
    ask(llm, "ill", PROMPTS[1])
    whole = finish(llm)
    assert whole["sound"].token_ids == expected
    assert whole["ill"].finish_reason == "error" and len(whole["ill"].token_ids) == 2
    assert "not finite" in (whole["ill"].error or "") and "float32" in (whole["ill"].error or "")


def test_forbidding_every_token_is_refused(tiny_folder: Path) -> None:
    llm = open_tiny(tiny_folder)
    every = tuple(range(llm.engine.info.vocab_size))
    with pytest.raises(InputError, match="forbids every token") as refused:
        ask(llm, "a", PROMPTS[0], SamplingParams(min_tokens=2, stop_token_ids=every))
    assert refused.value.param == "stop_token_ids"
    ask(llm, "b", PROMPTS[0], SamplingParams(min_tokens=2, stop_token_ids=every[1:], max_tokens=2))
    assert finish(llm)["b"].token_ids == [0, 0]
