"""What a request may ask for: values beyond any range, and what clients write for nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pellucid import LLM, InputError, SamplingParams


@pytest.mark.parametrize("name", ["top_k", "max_tokens", "min_tokens"])
@pytest.mark.parametrize("value", [1 << 40, 1 << 63, 1 << 64, 10**30])
def test_counts_beyond_any_model_mean_as_many_as_there_are(name: str, value: int) -> None:
    fields: dict[str, Any] = {name: value}
    params = SamplingParams(**fields)
    assert getattr(params, name) == (1 << 31) - 1
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams) == params


def test_a_top_k_above_the_vocabulary_keeps_everything(tiny_folder: Any) -> None:
    llm = LLM(str(tiny_folder), load_format="dummy", dtype="float32", memory=0.1)
    want = llm.generate([[5, 6]], SamplingParams(seed=1, max_tokens=3))[0].token_ids
    for top_k in (-1, 96, 1 << 63):
        params = SamplingParams(seed=1, max_tokens=3, top_k=top_k)
        assert llm.generate([[5, 6]], params)[0].token_ids == want


def test_minus_one_is_all_tokens_and_a_fresh_seed() -> None:
    params = SamplingParams(top_k=-1, seed=-1)
    assert (params.top_k, params.seed) == (0, None)
    assert SamplingParams(seed=-2).seed == -2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop_token_ids": (1 << 64,)}, "stop_token_ids"),
        ({"stop_token_ids": (-1,)}, "stop_token_ids"),
        ({"stop": ("x", "y" * 1025)}, "stop"),
        ({"stop_token_ids": ("2",)}, "stop_token_ids"),
        ({"stop_token_ids": (True,)}, "stop_token_ids"),
        ({"logit_bias": {1 << 64: 1.0}}, "logit_bias"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"logit_bias": {3: float("nan")}}, "logit_bias"),
        ({"seed": 1 << 63}, "seed"),
        ({"top_k": -2}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InputError, match=param) as caught:
        SamplingParams(**fields)
    assert caught.value.param == param
