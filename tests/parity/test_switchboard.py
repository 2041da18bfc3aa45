"""On equals off, for every row of the switchboard.

fp32 greedy tokens must not change with any choice of any switch of class `bit` or `token`, neither
on top of the defaults nor alone on top of everything off, nor with a block pool so small that
sequences are preempted. The model is a very small one with 4-bit weights, so that every choice can
be tried; `test_real_sizes` does it for the default model where sizes matter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from switches import (
    ALL_OFF,
    EXACT,
    answers,
    answers_alone,
    check_preemption,
    check_seed_in_company,
    on_top_of_off,
    open_llm,
    possible,
    settings,
)
from tiny_model import write_tiny_model

LENGTHS = (5, 1, 17, 16, 8, 66, 3, 2)
"""One token; a whole block of 16 tokens, and one more; more than `chunked_prefill=64` takes."""

SHORT = slice(3)
"""Prompts for what takes a step for each token of each prefix."""

PROMPTS = [[(7 * n + 31 * i + i * i) % 250 + 3 for i in range(n)] for n in LENGTHS]
COMPANY = [[(11 * n + i) % 250 + 3 for i in range(n)] for n in range(2, 10)]
EVERY_CHOICE = settings({f.key: f.choices for f in EXACT})


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-gguf") / "tiny.gguf"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="module")
def baseline(tiny_gguf: Path) -> list[list[int]]:
    """Each prompt alone, one after the other, with every optimization off."""
    return answers_alone(tiny_gguf, PROMPTS, **ALL_OFF)


def test_the_tiny_model_is_sensitive(baseline: list[list[int]], tiny_gguf: Path) -> None:
    """Its answers vary, and follow from the first token of a prompt and from the order of two."""
    assert len({token for tokens in baseline for token in tokens}) > 30
    place = LENGTHS.index(max(LENGTHS))
    first, *rest = PROMPTS[place]
    *before, a, b, last = PROMPTS[place]
    for got in answers(tiny_gguf, [[first + 1, *rest], [*before, b, a, last]])[0]:
        assert got != baseline[place]


def test_the_tiny_model_is_multiplied_as_it_lies(tiny_gguf: Path) -> None:
    possible(tiny_gguf, {"weights": "packed"})
    assert open_llm(tiny_gguf).engine.info.switches["weights"] == "packed"


@pytest.mark.parametrize("setting", EVERY_CHOICE)
def test_a_switch_does_not_change_the_tokens(
    setting: dict[str, Any], baseline: list[list[int]], tiny_gguf: Path
) -> None:
    got, _ = answers(tiny_gguf, PROMPTS, **possible(tiny_gguf, setting))
    assert got == baseline


@pytest.mark.parametrize("setting", EVERY_CHOICE)
def test_each_switch_alone_on_top_of_everything_off(
    setting: dict[str, Any], baseline: list[list[int]], tiny_gguf: Path
) -> None:
    got, _ = answers(tiny_gguf, PROMPTS[SHORT], **on_top_of_off(possible(tiny_gguf, setting)))
    assert got == baseline[SHORT]


def test_others_in_the_batch(baseline: list[list[int]], tiny_gguf: Path) -> None:
    got, _ = answers(tiny_gguf, [*PROMPTS, *COMPANY], max_seqs=16)
    assert got[: len(PROMPTS)] == baseline


@pytest.mark.parametrize("kv_cache", ["on", "off"])
@pytest.mark.parametrize("batching", ["continuous", "dynamic", "static"])
def test_a_pool_so_small_that_it_preempts(
    kv_cache: str, batching: str, baseline: list[list[int]], tiny_gguf: Path
) -> None:
    small = {"num_blocks": 22, "block_size": 4}
    if torch.cuda.is_available():
        small = {"num_blocks": 6, "block_size": 16}  # the least that our kernels take
    options = {"kv_cache": kv_cache, "batching": batching, **small}
    check_preemption(tiny_gguf, PROMPTS, baseline, **options)


def test_a_seed_gives_the_same_tokens_in_any_company(tiny_gguf: Path) -> None:
    check_seed_in_company(tiny_gguf, PROMPTS)
