"""The sampler against the definitions of its parameters, written out slowly."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings

from pellucid.errors import InputError
from pellucid.request import Row, SamplingParams
from pellucid.sampling import processors
from pellucid.sampling.sampler import Sampler, uniform


def row(history: list[int] | None = None, num_prompt: int = 1, seed: int = 0, **params: Any) -> Row:
    return Row(
        seq_id=0,
        tokens=[0],
        start=len(history or [0]) - 1,
        blocks=[0],
        samples=True,
        scores_prompt=False,
        params=SamplingParams(**params),
        seed=seed,
        history=history or [0],
        num_prompt=num_prompt,
    )


def sample(logits: torch.Tensor, rows: list[Row], eos: tuple[int, ...] = ()) -> list[int]:
    return [entry.token_id for entry in Sampler(eos).sample(logits.clone(), rows)]


def slow_truncate(logits: list[float], params: SamplingParams) -> list[float]:
    """top-k, top-p, min-p as their papers say, one row, plain Python floats.

    A threshold that a sum meets to the last bits decides either way; such cases do not count.
    """
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    order = sorted(range(len(logits)), key=lambda i: -weights[i])
    if params.top_k:
        order = order[: params.top_k]
    total = sum(weights[i] for i in order)
    kept, mass = [], 0.0
    for i in order:
        assume(not kept or abs(mass - params.top_p * total) > 1e-5 * total)
        if kept and mass >= params.top_p * total:
            break
        kept.append(i)
        mass += weights[i]
    floor = params.min_p * weights[order[0]]
    assume(all(abs(weights[i] - floor) > 1e-5 or i == order[0] for i in kept))
    kept = [i for i in kept if weights[i] >= floor or i == order[0]]
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(logits))]


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocab=st.integers(2, 60),
    several=st.lists(
        st.tuples(st.integers(0, 70), st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
        min_size=1,
        max_size=4,
    ),
    head=st.sampled_from([1, 4, 1024]),
)
def test_truncation_is_what_the_definitions_say(
    seed: int, vocab: int, several: list[tuple[int, float, float]], head: int
) -> None:
    logits = torch.randn(len(several), vocab, generator=torch.Generator().manual_seed(seed)) * 3
    rows = [row(top_k=k, top_p=p, min_p=m) for k, p, m in several]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processors, "_HEAD", head)  # the shortcut must not show
        probs = processors.truncate(logits.clone(), rows)
    for got, values, each in zip(probs, logits.tolist(), rows, strict=True):
        want = torch.tensor(slow_truncate(values, each.params))
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_greedy_is_the_argmax() -> None:
    logits = torch.randn(5, 40)
    assert sample(logits, [row(temperature=0) for _ in range(5)]) == logits.argmax(-1).tolist()


def test_a_tiny_temperature_is_greedy() -> None:
    logits = torch.randn(3, 40) * 50
    assert sample(logits, [row(temperature=1e-30)] * 3) == logits.argmax(-1).tolist()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(-(2**62), 2**62), company=st.integers(0, 5), place=st.integers(0, 5))
def test_a_seeded_row_does_not_mind_its_company(seed: int, company: int, place: int) -> None:
    generator = torch.Generator().manual_seed(company)
    logits = torch.randn(6, 300, generator=generator)
    settings_ = [
        {},
        {"top_k": 5},
        {"top_p": 0.5, "presence_penalty": 1.0},
        {"temperature": 0},
        {"min_p": 0.2},
        {"repetition_penalty": 1.5},
    ]
    rows = [row([1, 2, 3, 2], seed=seed + i, **s) for i, s in enumerate(settings_)]
    together = sample(logits, rows)
    assert sample(logits[place : place + 1], [rows[place]]) == [together[place]]


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    number = 20_000
    rows = [row(seed=seed) for seed in range(number)]
    seen = Counter(sample(logits.repeat(number, 1), rows))
    probs = torch.softmax(logits, -1).tolist()
    chi2 = sum((seen[i] - number * p) ** 2 / (number * p) for i, p in enumerate(probs[:4]))
    assert chi2 < 16.3  # 3 degrees of freedom, p = 0.001
    assert seen[4] == 0


def test_uniform_numbers_are_uniform_and_independent_of_order() -> None:
    numbers = [uniform(seed, position) for seed in range(100) for position in range(100)]
    assert all(0 <= u < 1 for u in numbers)
    tenths = Counter(int(u * 10) for u in numbers)
    assert sum((tenths[i] - 1000) ** 2 / 1000 for i in range(10)) < 27.9  # 9 degrees, p = 0.001
    assert len(set(numbers)) == len(numbers)
    neighbours = sum((a - 0.5) * (b - 0.5) for a, b in itertools.pairwise(numbers))
    assert abs(neighbours / len(numbers)) < 0.003


def test_penalties_change_exactly_what_they_say() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0, 1.0]] * 2)
    history = [0, 1, 1, 3, 3, 3]  # prompt 0, 1; answer 1, 3, 3, 3
    penalized = row(
        history, 2, repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25
    )
    processors.penalize(logits, [penalized, row(history, 2)])
    want = [1.0, -2.0 - 0.5 - 0.25, 0.5, 1.5 - 0.5 - 0.75, 1.0]
    torch.testing.assert_close(logits, torch.tensor([want, [2.0, -1.0, 0.5, 3.0, 1.0]]))


def test_bias_and_min_tokens() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0, 4.0]] * 3)
    rows = [
        row(temperature=0, logit_bias={0: 10.0}),
        row([9, 9], 1, temperature=0, min_tokens=2, stop_token_ids=(3,)),
        row([9, 9, 9], 1, temperature=0, min_tokens=2),
    ]
    assert sample(logits, rows, eos=(1,)) == [0, 2, 1]


def test_logprobs_are_the_models_own() -> None:
    logits = torch.randn(2, 50)
    rows = [
        row(temperature=0.3, top_k=1, logprobs=3, logit_bias={4: 100.0}),
        row(temperature=0),
    ]
    first, second = Sampler(()).sample(logits.clone(), rows)
    own = torch.log_softmax(logits[0], -1)
    assert first.token_id == 4
    assert first.logprob == pytest.approx(own[4].item())
    assert [t for t, _ in first.top] == own.topk(3).indices.tolist()
    assert [v for _, v in first.top] == pytest.approx(own.topk(3).values.tolist())
    assert math.isnan(second.logprob)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", True),
        ("top_p", 1.5),
        ("top_k", -2),
        ("min_p", -0.1),
        ("n", 0),
        ("n", 1.5),
        ("max_tokens", 2.0),
        ("max_tokens", 0),
        ("repetition_penalty", 0),
        ("presence_penalty", 3),
        ("logprobs", 1000),
        ("stop", ("",)),
        ("stop", ("x",) * 33),
        ("logit_bias", {1: 1000.0}),
        ("min_tokens", -1),
    ],
)
def test_bad_parameters_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name) as refused:
        SamplingParams(**{name: value})
    assert refused.value.param == name


def test_min_tokens_above_max_tokens_is_refused() -> None:
    with pytest.raises(InputError, match=r"min_tokens \(5\) must not be above max_tokens \(3\)"):
        SamplingParams(min_tokens=5, max_tokens=3)
