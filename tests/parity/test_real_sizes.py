"""On equals off for the default model, where a tiny one cannot stand in for it.

`test_switchboard` tries every choice of every switch. Here heads are 64 wide, the vocabulary has
49,152 tokens and the weights are a trained model's. The baseline is everything off. Each switch is
taken away from the defaults, and those that choose other arithmetic are also put alone on top of
everything off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from switches import (
    ALL_OFF,
    EXACT,
    NUM_TOKENS,
    answers,
    answers_alone,
    check_preemption,
    check_seed_in_company,
    on_top_of_off,
    open_llm,
    possible,
    record_logits,
    settings,
)

from pellucid import SamplingParams
from pellucid.runner.steps import PaddedSteps

pytestmark = pytest.mark.model

PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a land far away, there lived",
    "1, 1, 2, 3, 5, 8, 13,",
    "Die Hauptstadt von Deutschland",
    "Water boils at",
    "猫は",
    "To be, or not to be:",
]
COMPANY = [f"Tell me {n} things about the number {n * 7}." for n in range(8)]
WITHOUT_ONE = settings({f.key: (f.off,) for f in EXACT})
ARITHMETIC = ("attention", "fused_kernels", "gemv", "graphs", "weights")
ALONE = settings(
    {f.key: [c for c in f.choices if c != f.off] for f in EXACT if f.key in ARITHMETIC}
)


@pytest.fixture(scope="module")
def baseline(smollm2_path: Path) -> list[list[int]]:
    """Each prompt alone, one after the other, with every optimization off."""
    return answers_alone(smollm2_path, PROMPTS, **ALL_OFF)


def test_the_defaults(baseline: list[list[int]], smollm2_path: Path) -> None:
    assert answers(smollm2_path, PROMPTS)[0] == baseline


@pytest.mark.parametrize("setting", WITHOUT_ONE)
def test_the_defaults_without_one(
    setting: dict[str, Any], baseline: list[list[int]], smollm2_path: Path
) -> None:
    got, _ = answers(smollm2_path, PROMPTS, **possible(smollm2_path, setting))
    assert got == baseline


@pytest.mark.parametrize("setting", ALONE)
def test_one_alone_on_top_of_everything_off(
    setting: dict[str, Any], baseline: list[list[int]], smollm2_path: Path
) -> None:
    got, _ = answers(smollm2_path, PROMPTS[:2], **on_top_of_off(possible(smollm2_path, setting)))
    assert got == baseline[:2]


def test_eight_others_in_the_batch(baseline: list[list[int]], smollm2_path: Path) -> None:
    got, _ = answers(smollm2_path, [*PROMPTS, *COMPANY], max_seqs=16)
    assert got[: len(PROMPTS)] == baseline


def test_a_pool_so_small_that_it_preempts(baseline: list[list[int]], smollm2_path: Path) -> None:
    small = {"num_blocks": 12, "block_size": 4}
    if torch.cuda.is_available():
        small = {"num_blocks": 5, "block_size": 16}  # the least that our kernels take
    check_preemption(smollm2_path, PROMPTS, baseline, **small)


def test_a_seed_gives_the_same_tokens_in_any_company(smollm2_path: Path) -> None:
    check_seed_in_company(smollm2_path, PROMPTS)


@pytest.mark.gpu
def test_graphs_give_the_bits_of_eager(smollm2_path: Path) -> None:
    """Logits of every step, compared as bits; also through sampling, whose noise is the same."""
    recorded: dict[str, list[torch.Tensor]] = {}
    for graphs in ("off", "on"):
        llm = open_llm(smollm2_path, dtype="bfloat16", graphs=graphs)
        padded = next(way for way in llm.engine.runner._ways if isinstance(way, PaddedSteps))
        record_logits(padded, recorded.setdefault(graphs, []))
        for prompts in (PROMPTS, PROMPTS[:1], PROMPTS[:3]):
            params = SamplingParams(temperature=0.8, seed=3, max_tokens=NUM_TOKENS, ignore_eos=True)
            llm.generate(prompts, params)
    assert len(recorded["on"]) == len(recorded["off"]) > 20
    for eager, graph in zip(recorded["off"], recorded["on"], strict=True):
        assert torch.equal(eager, graph)


@pytest.mark.gpu
def test_steps_that_sample_nothing_stay_in_order(smollm2_path: Path) -> None:
    """Many short chunks one behind the other, launched ahead of a device that has more to do."""
    prompts = [[50 + n * 7 % 9000 for n in range(length)] for length in (900, 700, 800, 500)]
    want, _ = answers(smollm2_path, prompts, overlap="off")
    got, _ = answers(smollm2_path, prompts, overlap="on", chunked_prefill=7)
    assert got == want
