"""Switches that are changed on a running engine: nothing is lost, and the tokens stay the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import LLM, SamplingParams
from pellucid import engine as engine_module
from pellucid.assembly import assemble
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.features import FEATURES
from pellucid.request import Output
from pellucid.switching import switched

PROMPTS = [[5, 9, 3, 77, 12, 4, 31], [8] * 21, [60, 2, 33], [17, 3] * 9]
OPTIONS: dict[str, Any] = {
    "load_format": "dummy", "dtype": "float32", "device": "cpu", "num_blocks": 24,
    "block_size": 8, "max_seqs": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def llm(tiny_folder: Path) -> LLM:
    return LLM(str(tiny_folder), **OPTIONS)


def params() -> list[SamplingParams]:
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0.9, "seed": 4, "logprobs": 2},
        {"temperature": 0, "repetition_penalty": 1.3},
        {"temperature": 0.9, "seed": 9, "n": 2},
    ]
    return [SamplingParams(max_tokens=12, ignore_eos=True, **kind) for kind in kinds]


def tokens(outputs: list[Output]) -> list[list[int]]:
    return [output.token_ids for output in outputs]


@pytest.fixture(scope="module")
def expected(llm: LLM) -> list[list[int]]:
    return tokens(llm.generate(PROMPTS, params()))


POSSIBLE = [
    (feature.key, value)
    for feature in FEATURES
    for value in feature.choices
    if feature.exactness != "lossy"
]


@pytest.mark.parametrize(("key", "value"), POSSIBLE, ids=lambda x: str(x))
def test_each_value_is_had_or_refused_as_foretold(
    key: str, value: str, llm: LLM, expected: list[list[int]]
) -> None:
    engine = llm.engine
    before = engine.info.switches
    why_not = engine.info.obstacles[key][value]
    if why_not:
        with pytest.raises(InputError, match=key) as refusal:
            llm.switch(**{key: value})
        assert str(refusal.value) == why_not
        assert engine.info.switches == before
    else:
        info = llm.switch(**{key: value})
        assert info.switches[key] == value
        assert info is engine.info
        assert info.why[key] in ("asked for", "the default")
    found = tokens(llm.generate(PROMPTS, params()))
    if key != "sampler":  # another way to draw is another draw
        assert found == expected
    llm.switch(**{key: getattr(EngineConfig(), key)})
    assert engine.info.switches == before


def test_answers_go_on_over_every_change(llm: LLM, expected: list[list[int]]) -> None:
    """A flip after every few pieces, of whatever can be had here and draws the same tokens."""
    rng = random.Random(7)
    start = llm.engine.config
    flips = [
        (key, value)
        for key, values in llm.engine.info.obstacles.items()
        for value, why_not in values.items()
        if not why_not and key != "sampler"
    ]
    answers: dict[tuple[int, int], list[int]] = {}
    for count, (number, piece) in enumerate(llm.stream_all(PROMPTS, params())):
        answers.setdefault((number, piece.index), []).extend(piece.token_ids)
        if count % 3 == 0:
            key, value = rng.choice(flips)
            try:
                llm.switch(**{key: value})
            except InputError as error:
                assert str(error) == llm.engine.info.obstacles[key][value]
            llm.engine.scheduler.check_integrity()
    assert [answers[key] for key in sorted(answers)] == expected
    assert llm.engine.stats().num_blocks_used == 0
    llm.switch(**{feature.key: getattr(start, feature.key) for feature in FEATURES})


def test_weights_and_cache_stay_unless_they_must_change(llm: LLM) -> None:
    def parts() -> tuple[Any, Any]:
        made = llm.engine._made
        return made.parts.model.layers[0].qkv, made.pool

    matrix, pool = parts()
    llm.switch(attention="naive", fused_kernels="off", batching="static")
    assert parts() == (matrix, pool)
    llm.switch(attention="auto", fused_kernels="auto", batching="continuous")


def test_tokens_in_flight_at_a_change_are_counted(llm: LLM) -> None:
    llm.switch(overlap="on")
    before = llm.engine.stats().num_output_tokens
    found = 0
    for count, (_, piece) in enumerate(llm.stream_all(PROMPTS, params())):
        found += len(piece.token_ids)
        if count % 4 == 0:
            llm.switch(attention=("naive", "flash")[count // 4 % 2])
    assert llm.engine.stats().num_output_tokens - before == found
    llm.switch(overlap="auto", attention="auto")


def test_names_and_values_that_do_not_exist(llm: LLM) -> None:
    before = llm.engine.info
    with pytest.raises(InputError, match="no switch 'colour'; there are: kv_cache"):
        llm.switch(colour="red")
    with pytest.raises(InputError, match="kv_cache must be one of on, off, not 'maybe'"):
        llm.switch(kv_cache="maybe")
    with pytest.raises(InputError, match="chunked_prefill must be a whole number, not 'few'"):
        llm.switch(chunked_prefill="few")
    with pytest.raises(InputError, match="no switch 'num_blocks'"):
        llm.switch(num_blocks=3)
    assert llm.engine.info is before


def test_a_number_may_be_given_as_text() -> None:
    config = switched(EngineConfig(), {"chunked_prefill": "64"})
    assert config.chunked_prefill == 64
    assert switched(config, {"chunked_prefill": -1}) == EngineConfig()


@pytest.mark.parametrize(
    ("planted", "seen"),
    [
        (InputError("the largest step does not fit", param="memory"), InputError),
        (torch.cuda.OutOfMemoryError("2 GiB"), InputError),
        (RuntimeError("a bug"), RuntimeError),
    ],
    ids=["refused", "out of memory", "bug"],
)
def test_what_cannot_be_built_leaves_all_as_it_was(
    planted: Exception,
    seen: type[Exception],
    llm: LLM,
    expected: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while answers are being made."""
    before = llm.engine.info.switches

    def too_much(*args: Any) -> Any:
        made = assemble(*args)
        if made.config.attention == "naive":
            raise planted
        return made

    monkeypatch.setattr(engine_module, "assemble", too_much)
    answers: dict[tuple[int, int], list[int]] = {}
    for count, (number, piece) in enumerate(llm.stream_all(PROMPTS, params())):
        answers.setdefault((number, piece.index), []).extend(piece.token_ids)
        if count in (2, 9):
            with pytest.raises(seen):
                llm.switch(attention="naive")
    assert [answers[key] for key in sorted(answers)] == expected
    assert llm.engine.info.switches == before
