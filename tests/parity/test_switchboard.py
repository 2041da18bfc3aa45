"""On equals off, for every row of the switchboard.

fp32 greedy tokens of the real default model must not change with any switch of class `bit` or
`token`, alone or with fifteen others in the batch, or with a block pool so small that sequences
are preempted. The baseline is everything off; it is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pellucid import LLM, SamplingParams
from pellucid.features import FEATURES

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
NUM_TOKENS = 12
GREEDY = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
EXACT = [f for f in FEATURES if f.exactness in ("bit", "token")]
ALL_OFF: dict[str, Any] = {f.key: f.off for f in EXACT}


def typed(options: dict[str, Any]) -> dict[str, Any]:
    """The switchboard holds text; `EngineConfig` wants the field's type."""
    return {k: int(v) if k == "chunked_prefill" else v for k, v in options.items()}


def answers(path: Path, prompts: list[str], **options: Any) -> tuple[list[list[int]], LLM]:
    llm = LLM(str(path), **{"dtype": "float32", "num_blocks": 256, **typed(options)})
    outputs = llm.generate(prompts, GREEDY)
    llm.engine.scheduler.check_integrity()
    assert llm.engine.stats().num_blocks_used == 0
    return [output.token_ids for output in outputs], llm


@pytest.fixture(scope="module")
def baseline(smollm2_path: Path) -> Iterator[list[list[int]]]:
    """Each prompt alone, one after the other, with every optimization off."""
    llm = LLM(str(smollm2_path), dtype="float32", num_blocks=256, **typed(ALL_OFF))
    yield [llm.generate(prompt, GREEDY)[0].token_ids for prompt in PROMPTS]


SETTINGS = [
    pytest.param({f.key: choice}, id=f"{f.key}={choice}") for f in EXACT for choice in f.choices
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_switch_does_not_change_the_tokens(
    setting: dict[str, Any], baseline: list[list[int]], smollm2_path: Path
) -> None:
    got, _ = answers(smollm2_path, PROMPTS, **setting)
    assert got == baseline


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_switch_alone_on_top_of_everything_off(
    setting: dict[str, Any], baseline: list[list[int]], smollm2_path: Path
) -> None:
    got, _ = answers(smollm2_path, PROMPTS[:2], **{**ALL_OFF, **setting})
    assert got == baseline[:2]


def test_fifteen_others_in_the_batch(baseline: list[list[int]], smollm2_path: Path) -> None:
    got, _ = answers(smollm2_path, [*PROMPTS, *COMPANY], max_seqs=16)
    assert got[: len(PROMPTS)] == baseline


@pytest.mark.parametrize("kv_cache", ["on", "off"])
def test_a_pool_so_small_that_it_preempts(
    kv_cache: str, baseline: list[list[int]], smollm2_path: Path
) -> None:
    options = {"kv_cache": kv_cache, "num_blocks": 12, "block_size": 4}
    got, llm = answers(smollm2_path, PROMPTS, **options)
    assert llm.engine.stats().num_preemptions > 0
    assert got == baseline


def test_a_seed_gives_the_same_tokens_in_any_company(smollm2_path: Path) -> None:
    llm = LLM(str(smollm2_path), dtype="float32", num_blocks=256)
    params = SamplingParams(temperature=1.0, top_p=0.95, seed=1234, max_tokens=NUM_TOKENS)
    free = SamplingParams(temperature=1.2, max_tokens=NUM_TOKENS)
    alone = llm.generate(PROMPTS[0], params)[0].token_ids
    crowd = llm.generate([*PROMPTS[1:], PROMPTS[0]], [free] * (len(PROMPTS) - 1) + [params])
    assert crowd[-1].token_ids == alone
