"""The library's door and the engine behind it, on a model of made-up weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import LLM, EngineConfig, InputError, SamplingParams
from pellucid.runner.clock import make_clock
from pellucid.runner.machine import Machine
from pellucid.runner.memory import plan_memory

GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture(scope="module")
def llm(tiny_folder: Path) -> LLM:
    return open_tiny(tiny_folder)


def open_tiny(folder: Path, **options: Any) -> LLM:
    settings = {"load_format": "dummy", "device": "cpu", "dtype": "float32", "num_blocks": 64}
    return LLM(str(folder), **{**settings, **options})


def test_outputs_come_in_the_order_of_prompts_and_choices(llm: LLM) -> None:
    prompts = [[5, 6, 7], [8], [9, 10]]
    params = SamplingParams(max_tokens=4, n=2, seed=3, ignore_eos=True)
    outputs = llm.generate(prompts, params)
    assert [(o.prompt_token_ids, o.index) for o in outputs] == [
        (p, i) for p in prompts for i in (0, 1)
    ]
    assert all(len(o.token_ids) == 4 for o in outputs)
    assert all(o.stats is not None and o.stats.num_output_tokens == 4 for o in outputs)


def test_a_single_prompt_of_ids_is_one_prompt(llm: LLM) -> None:
    assert len(llm.generate([5, 6, 7], GREEDY)) == 1


def test_stream_pieces_join_to_what_generate_gives(llm: LLM) -> None:
    whole = llm.generate([5, 6, 7], GREEDY)[0]
    pieces = list(llm.stream([5, 6, 7], GREEDY))
    assert [t for piece in pieces for t in piece.token_ids] == whole.token_ids
    assert [piece.finish_reason for piece in pieces] == [None] * 7 + ["length"]


def test_two_streams_can_be_read_in_turns(llm: LLM) -> None:
    a, b = llm.stream([5], GREEDY), llm.stream([6], GREEDY)
    mixed = [(next(a).token_ids, next(b).token_ids) for _ in range(8)]
    assert [t for ids, _ in mixed for t in ids] == llm.generate([5], GREEDY)[0].token_ids
    assert [t for _, ids in mixed for t in ids] == llm.generate([6], GREEDY)[0].token_ids


def test_many_prompts_stream_side_by_side(llm: LLM) -> None:
    prompts = [[5, 6, 7], [8]]
    params = [changed(GREEDY, max_tokens=6), changed(GREEDY, max_tokens=2)]
    got: dict[int, list[int]] = {0: [], 1: []}
    ended = []
    for number, piece in llm.stream_all(prompts, params):
        got[number] += piece.token_ids
        ended += [number] * (piece.finish_reason is not None)
    assert ended == [1, 0], "the shorter answer does not wait for the longer one"
    outputs = llm.generate(prompts, params)
    assert [got[0], got[1]] == [output.token_ids for output in outputs]
    pieces = llm.stream_all([[5] * 40, [6] * 40], GREEDY)
    next(pieces)
    pieces.close()
    assert not llm.engine.has_work and llm.engine.stats().num_blocks_used == 0


def test_closing_a_stream_early_frees_its_blocks(llm: LLM) -> None:
    pieces = llm.stream([5] * 40, GREEDY)
    next(pieces)
    assert llm.engine.stats().num_blocks_used > 0
    pieces.close()
    assert llm.engine.stats().num_blocks_used == 0
    assert not llm.engine.has_work


def test_a_refused_prompt_leaves_nothing_behind(llm: LLM) -> None:
    with pytest.raises(InputError, match="context length"):
        llm.generate([[5], [5] * 128], GREEDY)
    assert not llm.engine.has_work
    assert len(llm.generate([5], GREEDY)) == 1


def test_logprobs_of_prompt_and_answer_agree(llm: LLM) -> None:
    """What the answer's log-probabilities say, scoring the same tokens as a prompt says too."""
    asked = changed(GREEDY, logprobs=2)
    answer = llm.generate([5, 6, 7], asked)[0]
    assert answer.logprobs is not None
    whole = [5, 6, 7, *answer.token_ids]
    scored = llm.generate([whole], SamplingParams(max_tokens=1, prompt_logprobs=2))[0]
    assert scored.prompt_logprobs is not None
    assert scored.prompt_logprobs[0] is None
    for mine, theirs in zip(scored.prompt_logprobs[3:], answer.logprobs, strict=True):
        assert mine is not None
        assert mine.token_id == theirs.token_id
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert [t for t, _ in mine.top] == [t for t, _ in theirs.top]


def changed(params: SamplingParams, **changes: Any) -> SamplingParams:
    values = {name: getattr(params, name) for name in params.__struct_fields__}
    return SamplingParams(**{**values, **changes})


@pytest.mark.parametrize(
    "options",
    [
        {"kv_cache": "off"},
        {"attention": "naive"},
        {"batching": "static"},
        {"batching": "dynamic"},
        {"chunked_prefill": 1},
        {"chunked_prefill": 7},
        {"chunked_prefill": 0},
        {"num_blocks": 9, "block_size": 4},
        {"block_size": 1},
        {"max_seqs": 1},
    ],
    ids=str,
)
def test_no_setting_changes_the_tokens(
    llm: LLM, tiny_folder: Path, options: dict[str, Any]
) -> None:
    prompts = [[5, 6, 7] * 6, [8], [9, 10, 11] * 4, [12] * 17]
    want = [llm.generate(p, GREEDY)[0].token_ids for p in prompts]
    other = open_tiny(tiny_folder, **options)
    assert [o.token_ids for o in other.generate(prompts, GREEDY)] == want
    other.engine.scheduler.check_integrity()


@pytest.mark.parametrize(
    ("prompt", "params", "words"),
    [
        ([96], {}, "token id 96 in prompt is not in the vocabulary of 96"),
        ([-1], {}, "token id -1 in prompt"),
        ([5], {"logit_bias": {100: 1.0}}, "token id 100 in logit_bias"),
        ([5], {"stop_token_ids": (500,)}, "token id 500 in stop_token_ids"),
        ([5], {"stop": ("x",)}, "stop"),
        ("text", {}, "no tokenizer.json: give prompts as token ids"),
        ([], {}, "empty"),
    ],
)
def test_bad_requests_are_refused(
    llm: LLM, prompt: Any, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        llm.generate([prompt], SamplingParams(**params))


def test_memory_that_is_not_there_is_refused_with_the_numbers(llm: LLM) -> None:
    spec = llm.engine.checkpoint.spec
    machine = Machine(torch.device("cpu"), torch.float32, 16, 512)
    with pytest.raises(InputError, match=r"take .* GiB, and .* GiB are free"):
        plan_memory(EngineConfig(memory=1e6), spec, machine, 128)
    plan = plan_memory(EngineConfig(), spec, machine, 128)
    assert plan.num_blocks == 64 * 128 // 16, "no more than all sequences can use"


def test_a_clock_sees_only_what_happens_inside(llm: LLM) -> None:
    clock = make_clock(torch.device("cpu"))
    with llm.engine.timed(clock):
        llm.generate([[5, 6, 7]], SamplingParams(max_tokens=3, temperature=0))
        clock.settle()
    assert {"schedule", "prepare", "qkv", "attention", "mlp", "lm_head", "sample"} <= set(clock.ns)
    before = dict(clock.ns)
    llm.generate([[5, 6, 7]], SamplingParams(max_tokens=3, temperature=0))
    assert clock.ns == before
