"""On equals off, for every row of the switchboard.

fp32 greedy tokens of the real default model must not change with any switch of class `bit` or
`token`, alone or with fifteen others in the batch, or with a block pool so small that sequences
are preempted. The baseline is everything off; it is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import LLM, SamplingParams
from pellucid.config import EngineConfig
from pellucid.engine import resolve_here
from pellucid.errors import InputError
from pellucid.features import FEATURES
from pellucid.model.checkpoint import open_checkpoint
from pellucid.request import Row
from pellucid.runner.steps import Launched, PaddedSteps

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


def possible(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`options`, or skip what cannot be had on this machine, with the engine's own reason."""
    config = EngineConfig(model=str(path), dtype="float32", **typed(options))
    try:
        resolve_here(config, open_checkpoint(config))
    except InputError as refusal:
        pytest.skip(str(refusal))
    return options


def on_top_of_off(setting: dict[str, Any]) -> dict[str, Any]:
    """Everything off but `setting`, and what it does not work with left to its default."""
    options = {**ALL_OFF, **setting}
    for feature in FEATURES:
        if feature.key in setting and setting[feature.key] != feature.off:
            for conflict in feature.conflicts:
                key, value = conflict.split("=")
                if options.get(key) == value:
                    del options[key]
    return options


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
    got, _ = answers(smollm2_path, PROMPTS, **possible(smollm2_path, setting))
    assert got == baseline


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_switch_alone_on_top_of_everything_off(
    setting: dict[str, Any], baseline: list[list[int]], smollm2_path: Path
) -> None:
    got, _ = answers(smollm2_path, PROMPTS[:2], **on_top_of_off(possible(smollm2_path, setting)))
    assert got == baseline[:2]


def test_fifteen_others_in_the_batch(baseline: list[list[int]], smollm2_path: Path) -> None:
    got, _ = answers(smollm2_path, [*PROMPTS, *COMPANY], max_seqs=16)
    assert got[: len(PROMPTS)] == baseline


@pytest.mark.parametrize("kv_cache", ["on", "off"])
def test_a_pool_so_small_that_it_preempts(
    kv_cache: str, baseline: list[list[int]], smollm2_path: Path
) -> None:
    small = {"num_blocks": 12, "block_size": 4}
    if torch.cuda.is_available():
        small = {"num_blocks": 5, "block_size": 16}  # the least that our kernels take
    options = {"kv_cache": kv_cache, **small}
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


def record_logits(padded: PaddedSteps, into: list[torch.Tensor]) -> None:
    """From here on, add every step's logits to `into`."""
    launch = padded.launch

    def launch_and_keep(rows: Sequence[Row]) -> Launched:
        launched = launch(rows)
        into.append(padded.logits[: len(launched.sampling)].clone())
        return launched

    padded.launch = launch_and_keep  # type: ignore[method-assign]


@pytest.mark.gpu
def test_graphs_give_the_bits_of_eager(smollm2_path: Path) -> None:
    """Logits of every step, compared as bits; also through sampling, whose noise is the same."""
    recorded: dict[str, list[torch.Tensor]] = {}
    for graphs in ("off", "on"):
        llm = LLM(str(smollm2_path), dtype="bfloat16", num_blocks=256, graphs=graphs)
        padded = next(way for way in llm.engine.runner._ways if isinstance(way, PaddedSteps))
        record_logits(padded, recorded.setdefault(graphs, []))
        for prompts in (PROMPTS, PROMPTS[:1], PROMPTS[:3]):
            params = SamplingParams(temperature=0.8, seed=3, max_tokens=NUM_TOKENS, ignore_eos=True)
            llm.generate(prompts, params)
    assert len(recorded["on"]) == len(recorded["off"]) > 20
    for eager, graph in zip(recorded["off"], recorded["on"], strict=True):
        assert torch.equal(eager, graph)
