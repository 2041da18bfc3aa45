"""With `batch_invariant`, a request's tokens and scores are the same bits whatever is beside it.

The same seeded requests are asked alone, and then in every way that makes steps of other shapes:
in batches and orders, with prompts cut into pieces, with answers that give way and are computed
again, beside others whose wishes make the whole step take other paths. What is compared is every
token id and every log-probability, as numbers and not nearly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny_model import write_tiny_model

from pellucid import LLM, InputError, SamplingParams
from pellucid.kernels import status, step_kernels
from pellucid.kernels.ops import CpuOps
from pellucid.request import Output, Request

pytestmark = pytest.mark.skipif(not status().ready, reason=status().line)

KINDS: list[Any] = [
    pytest.param({"weights": "packed"}, id="packed"),
    pytest.param({"weights": "dense"}, id="dense"),
    pytest.param({"weights": "dense", "dtype": "bfloat16"}, id="bfloat16"),
]


class Ask(NamedTuple):
    prompt: list[int]
    params: SamplingParams


def asks() -> list[Ask]:
    """Prompts of one to many tokens, each with other parameters; some score the prompt too."""
    settings: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0.9},
        {"top_k": 20, "top_p": 0.95},
        {"min_p": 0.02, "presence_penalty": 0.5, "prompt_logprobs": 2},
        {"temperature": 1.3, "logit_bias": {5: 1.5}},
        {"top_p": 0.8, "repetition_penalty": 1.2},
    ]
    lengths = [1, 70, 9, 33, 17, 2]
    make = torch.Generator().manual_seed(3)
    return [
        Ask(
            torch.randint(3, 260, (length,), generator=make).tolist(),
            SamplingParams(seed=i, logprobs=4, max_tokens=20, ignore_eos=True, **options),
        )
        for i, (length, options) in enumerate(zip(lengths, settings, strict=True))
    ]


def answered(llm: LLM, batch: list[Ask], later: int = 0) -> list[Output]:
    """The answers to `batch`, the last `later` of which join when the others are under way."""
    engine, whole = llm.engine, {str(i): Output(request_id=str(i)) for i in range(len(batch))}
    first = len(batch) - later
    for i, (prompt, params) in enumerate(batch):
        if i == first:
            take(engine.step(), whole)
            take(engine.step(), whole)
        engine.add(Request(id=str(i), prompt_token_ids=prompt, params=params))
    while engine.has_work:
        take(engine.step(), whole)
    return list(whole.values())


def take(outputs: list[Output], whole: dict[str, Output]) -> None:
    for output in outputs:
        whole[output.request_id].extend(output)


def bits(output: Output) -> tuple[Any, ...]:
    """All that a client could compare."""
    assert output.error is None and len(output.token_ids) == 20
    return output.token_ids, output.logprobs, output.prompt_logprobs


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("invariant") / "tiny.gguf"
    write_tiny_model(path)
    return path


def open_tiny(path: Path, **options: Any) -> LLM:
    given: dict[str, Any] = {
        "device": "cpu",
        "threads": 2,
        "num_blocks": 200,
        "batch_invariant": "on",
    }
    return LLM(str(path), **given | options)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_in_any_company(kind: dict[str, Any], tiny_gguf: Path) -> None:
    wanted, llm = asks(), open_tiny(tiny_gguf, **kind)
    alone = [bits(answered(llm, [ask])[0]) for ask in wanted]

    def check(llm: LLM, order: list[int], later: int = 0) -> None:
        for i, output in zip(order, answered(llm, [wanted[i] for i in order], later), strict=True):
            assert bits(output) == alone[i], f"request {i} of {order}"
        llm.engine.scheduler.check_integrity()

    everyone = list(range(len(wanted)))
    check(llm, everyone)
    check(llm, everyone[::-1])
    check(llm, [4, 1])
    check(llm, [5, 0, 2, 3, 1, 4], later=3)
    check(llm, everyone * 4)  # rows enough for every way of multiplying
    for budget in (1, 7, 16, 40, 0):
        check(open_tiny(tiny_gguf, chunked_prefill=budget, **kind), everyone)
    tight = open_tiny(tiny_gguf, num_blocks=10, chunked_prefill=24, **kind)
    check(tight, everyone)
    assert tight.engine.stats().num_preemptions > 0
    check(open_tiny(tiny_gguf, kv_cache="off", max_seqs=3, **kind), everyone)
    check(open_tiny(tiny_gguf, block_size=32, threads=2, **kind), everyone)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_the_small_steps_of_a_token_do_not_see_the_others(activation: str) -> None:
    """Widths that are not whole vectors, on several threads: torch's operations fail here."""
    torch.set_num_threads(2)
    ops, make = CpuOps(step_kernels()), torch.Generator().manual_seed(0)
    x, weight = torch.randn(300, 2002, generator=make), torch.rand(2002, generator=make)
    gated, normed = ops.gated(x, activation), ops.norm(x, weight, 1e-5)
    for count in (1, 3, 64, 299):
        for first in range(0, 300 - count, 50):
            some = slice(first, first + count)
            assert torch.equal(ops.gated(x[some], activation), gated[some])
            assert torch.equal(ops.norm(x[some], weight, 1e-5), normed[some])


def test_what_the_engine_says_of_it(tiny_gguf: Path) -> None:
    info = open_tiny(tiny_gguf).engine.info
    assert (info.batch_invariant, info.dtype) == ("on", "float32")
    assert info.why["batch_invariant"] == "asked for"
    info = open_tiny(tiny_gguf, batch_invariant="off").engine.info
    assert (info.batch_invariant, info.why["batch_invariant"]) == ("off", "the default")
    with pytest.raises(InputError, match="batch_invariant on: with attention sdpa"):
        open_tiny(tiny_gguf, attention="sdpa")
