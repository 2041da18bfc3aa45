"""Settings of the switchboard, and what an engine with such settings answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import LLM, SamplingParams
from pellucid.assembly import resolve_here
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.features import FEATURES
from pellucid.model.checkpoint import open_checkpoint
from pellucid.request import Row
from pellucid.runner.steps import Launched, PaddedSteps

NUM_TOKENS = 12
GREEDY = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
EXACT = [f for f in FEATURES if f.exactness in ("bit", "token")]
ALL_OFF: dict[str, Any] = {f.key: f.off for f in EXACT}
Prompts = Sequence[str | list[int]]


def settings(choices: dict[str, Sequence[str]]) -> list[Any]:
    """Parameters of a test, one for each choice of each switch."""
    return [
        pytest.param({key: choice}, id=f"{key}={choice}")
        for key, several in choices.items()
        for choice in several
    ]


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


def open_llm(path: Path, **options: Any) -> LLM:
    return LLM(str(path), **{"dtype": "float32", "num_blocks": 256, **typed(options)})


def answers(path: Path, prompts: Prompts, **options: Any) -> tuple[list[list[int]], LLM]:
    """The greedy tokens of `prompts` as one batch, and the engine that gave them."""
    llm = open_llm(path, **options)
    outputs = llm.generate(list(prompts), GREEDY)
    llm.engine.scheduler.check_integrity()
    assert llm.engine.stats().num_blocks_used == 0
    return [output.token_ids for output in outputs], llm


def answers_alone(path: Path, prompts: Prompts, **options: Any) -> list[list[int]]:
    """The greedy tokens of each prompt alone, one after the other."""
    llm = open_llm(path, **options)
    return [llm.generate([prompt], GREEDY)[0].token_ids for prompt in prompts]


def check_preemption(path: Path, prompts: Prompts, want: list[list[int]], **options: Any) -> None:
    """The pool is so small that sequences are preempted, and the tokens are the same."""
    got, llm = answers(path, prompts, **options)
    assert llm.engine.stats().num_preemptions > 0
    assert got == want


def check_seed_in_company(path: Path, prompts: Prompts) -> None:
    """A seeded answer is the same alone and beside others that are drawn otherwise."""
    llm = open_llm(path)
    params = SamplingParams(temperature=1.0, top_p=0.95, seed=1234, max_tokens=NUM_TOKENS)
    free = SamplingParams(temperature=1.2, max_tokens=NUM_TOKENS)
    first, *others = prompts
    alone = llm.generate([first], params)[0].token_ids
    crowd = llm.generate([*others, first], [free] * len(others) + [params])
    assert crowd[-1].token_ids == alone


def record_logits(padded: PaddedSteps, into: list[torch.Tensor]) -> None:
    """From here on, add every step's logits to `into`."""
    launch = padded.launch

    def launch_and_keep(rows: Sequence[Row]) -> Launched:
        launched = launch(rows)
        into.append(padded.logits[: len(launched.sampling)].clone())
        return launched

    padded.launch = launch_and_keep  # type: ignore[method-assign]
