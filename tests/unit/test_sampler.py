"""The sampler against the definitions of its parameters, written out slowly."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings

from pellucid.errors import InputError
from pellucid.kernels.columns import Column
from pellucid.kernels.rows import draw_keys
from pellucid.request import SamplingParams, SequenceStart, TokenLogprob, looks_back
from pellucid.sampling import inversion
from pellucid.sampling.inversion import Inversion, largest
from pellucid.sampling.sampler import (
    NO_SCORES,
    NOT_FINITE,
    NOTHING,
    PLAIN,
    TRUNCATED,
    Draw,
    Rows,
    Sampler,
    draw_of,
    logprob_of,
)
from pellucid.sampling.state import SamplingState

CPU = torch.device("cpu")


class Case(NamedTuple):
    """A sequence about to draw its next token."""

    history: list[int]
    num_prompt: int
    seed: int
    params: SamplingParams

    @property
    def start(self) -> SequenceStart:
        return SequenceStart(
            seq_id=0,
            params=self.params,
            seed=self.seed,
            num_prompt=self.num_prompt,
            num_known=len(self.history),
            tokens=self.history if looks_back(self.params) else [],
        )


def row(
    history: list[int] | None = None, num_prompt: int = 1, seed: int = 0, **params: Any
) -> Case:
    return Case(history or [0], num_prompt, seed, SamplingParams(**params))


def state_of(cases: list[Case], vocab: int, eos: tuple[int, ...] = ()) -> SamplingState:
    state = SamplingState(len(cases), vocab, eos, CPU)
    state.admit(range(len(cases)), [case.start for case in cases])
    return state


def rows_of(state: SamplingState, cases: list[Case]) -> Rows:
    places = torch.arange(len(cases))
    positions = torch.tensor([len(case.history) - 1 for case in cases])
    settings = state.columns[:, places]
    lasts = torch.tensor([case.history[-1] for case in cases])
    return Rows(places, lasts, positions, draw_keys(settings, positions), settings)


def drawn(logits: torch.Tensor, cases: list[Case], eos: tuple[int, ...] = ()) -> list[TokenLogprob]:
    """Each case's token with its log-probabilities, NaN for those that ask for none."""
    state = state_of(cases, logits.shape[1], eos)
    draw = draw_of((case.params, len(case.history) - case.num_prompt) for case in cases)
    scored = [i for i, case in enumerate(cases) if case.params.logprobs is not None]
    tokens, scores = Sampler(Inversion(), state).draw(
        logits.clone(), rows_of(state, cases), draw, scored
    )
    entries = [TokenLogprob(token, math.nan) for token in tokens.tolist()]
    if scores is not None:
        for n, i in enumerate(scored):
            entries[i] = logprob_of(
                entries[i].token_id,
                scores.own[n].item(),
                scores.values[n].tolist(),
                scores.tokens[n].tolist(),
                cases[i].params.logprobs or 0,
            )
    return entries


def sample(logits: torch.Tensor, cases: list[Case], eos: tuple[int, ...] = ()) -> list[int]:
    return [entry.token_id for entry in drawn(logits, cases, eos)]


def uniform(seed: int, position: int) -> float:
    """The number that draws the token at `position`."""
    state = state_of([row(seed=seed)], 2)
    return float(
        inversion.uniform(draw_keys(state.columns[:, :1], torch.tensor([position - 1])))[0]
    )


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
    kept: list[int] = []
    mass = 0.0
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
    settings_ = rows_of(state_of(rows, vocab), rows)
    limits = (
        settings_.settings[Column.TOP_K],
        settings_.floats(Column.TOP_P),
        settings_.floats(Column.MIN_P),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion, "_HEAD", head)  # the shortcut must not show
        probs = inversion.truncate(logits.clone(), limits)
    for got, values, each in zip(probs, logits.tolist(), rows, strict=True):
        got = got / got.sum()
        want = torch.tensor(slow_truncate(values, each.params))
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_greedy_is_the_argmax() -> None:
    logits = torch.randn(5, 40)
    assert sample(logits, [row(temperature=0) for _ in range(5)]) == logits.argmax(-1).tolist()


def test_a_tiny_temperature_is_greedy() -> None:
    logits = torch.randn(3, 40) * 50
    for temperature in (1e-30, 1e-44, 1e-300):  # the last is 0 in float32
        assert sample(logits, [row(temperature=temperature)] * 3) == logits.argmax(-1).tolist()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(-(2**62), 2**62), company=st.integers(0, 5), place=st.integers(0, 5))
def test_a_seeded_row_does_not_mind_its_company(seed: int, company: int, place: int) -> None:
    generator = torch.Generator().manual_seed(company)
    logits = torch.randn(6, 300, generator=generator)
    settings_: list[dict[str, Any]] = [
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


def test_a_row_is_drawn_alike_beside_rows_that_are_truncated() -> None:
    """Also if its number lies where two ways of rounding the same sums would part."""
    vocab, limits = 5000, (torch.zeros(1, dtype=torch.int32), torch.ones(1), torch.zeros(1))
    logits = torch.randn(1, vocab, generator=torch.Generator().manual_seed(0)) * 4
    probs = torch.softmax(logits, -1)
    sums = torch.cat([p.double().cumsum(-1) for p in (probs, probs / probs.sum())])
    low, high = (sums / sums[:, -1:]).sort(0).values
    between = ((low + high) / 2)[high - low > 1e-12]
    assert len(between) > 200
    keys = (between[:200] * 2.0**53).long() << 11
    rows, temperature = logits.repeat(len(keys), 1), torch.ones(len(keys))
    plain = inversion.draw_by_inversion(rows, temperature, keys, None)
    many = tuple(limit.repeat(len(keys)) for limit in limits)
    assert torch.equal(inversion.draw_by_inversion(rows, temperature, keys, many), plain)


def test_tokens_and_scores_of_a_row_are_the_same_beside_others() -> None:
    """To the bit, for a vocabulary that torch adds up on several threads if there is one row."""
    torch.set_num_threads(2)
    settings_: list[dict[str, Any]] = [
        {},
        {"top_k": 5},
        {"top_k": 3000, "top_p": 0.9},
        {"top_p": 0.9999, "presence_penalty": 1.0},
        {"min_p": 0.01, "logit_bias": {7: 2.0}},
        {"temperature": 0},
    ]
    logits = torch.randn(6, 40_000, generator=torch.Generator().manual_seed(1)) * 3
    rows = [row([1, 2, 3], seed=i, logprobs=5, **s) for i, s in enumerate(settings_)]
    together = drawn(logits, rows)
    for place in range(6):
        assert drawn(logits[place : place + 1], [rows[place]]) == [together[place]]
        pair = [place, (place + 1) % 6]
        assert drawn(logits[pair], [rows[i] for i in pair]) == [together[i] for i in pair]


def test_equal_logits_come_in_one_order_whatever_others_ask_for() -> None:
    logits = torch.randint(-2, 3, (2, 500), generator=torch.Generator().manual_seed(0)).float()
    logits[0, 7] = 9.0
    rows = [row(seed=1, logprobs=5), row(seed=2, logprobs=100)]
    few, many = drawn(logits, rows)
    assert [few] == drawn(logits[:1], rows[:1])
    for entry, values in zip((few, many), logits.tolist(), strict=True):
        wanted = sorted(range(500), key=lambda token: (-values[token], token))
        assert [token for token, _ in entry.top] == wanted[: len(entry.top)]
    lowest = largest(torch.full((1, 40), -3.5), 40)[1]
    assert lowest.tolist() == [list(range(40))]
    assert largest(torch.zeros(2, 40), 0)[1].shape == (2, 0)


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
    state = state_of([row(seed=seed) for seed in range(100)], 2)
    positions = torch.arange(100).repeat(100)
    columns = state.columns[:, torch.arange(100).repeat_interleave(100)]
    numbers = inversion.uniform(draw_keys(columns, positions - 1)).tolist()
    assert numbers[7 * 100 + 3] == uniform(7, 3)
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
    cases = [penalized, row(history, 2)]
    state = state_of(cases, 5)
    Sampler(Inversion(), state).adjust(logits, rows_of(state, cases))
    want = [1.0, -2.0 - 0.5 - 0.25, 0.5, 1.5 - 0.5 - 0.75, 1.0]
    torch.testing.assert_close(logits, torch.tensor([want, [2.0, -1.0, 0.5, 3.0, 1.0]]))


def test_bias_and_min_tokens() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0, 4.0]] * 3)
    rows = [
        row(temperature=0, logit_bias={0: 10.0}),
        row([2, 2], 1, temperature=0, min_tokens=2, stop_token_ids=(3,)),
        row([2, 2, 2], 1, temperature=0, min_tokens=2),
    ]
    assert sample(logits, rows, eos=(1,)) == [0, 2, 1]


@settings(max_examples=50, deadline=None)
@given(
    prompt=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    answer=st.lists(st.integers(0, 6), min_size=1, max_size=9),
    known=st.integers(0, 9),
)
def test_tokens_are_counted_once_whoever_saw_them_first(
    prompt: list[int], answer: list[int], known: int
) -> None:
    """The host knows some at the start; each later one is counted by the step that computes it."""
    penalties: dict[str, Any] = {
        "repetition_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
    }
    whole = [*prompt, *answer]
    begin = row(whole[: len(prompt) + min(known, len(answer))], len(prompt), **penalties)
    state = state_of([begin], 7)
    for length in range(len(begin.history), len(whole) + 1):
        logits = torch.linspace(-1.0, 2.0, 7)[None].clone()
        Sampler(Inversion(), state).adjust(
            logits, rows_of(state, [begin._replace(history=whole[:length])])
        )
    at_once = row(whole, len(prompt), **penalties)
    want, fresh = torch.linspace(-1.0, 2.0, 7)[None].clone(), state_of([at_once], 7)
    Sampler(Inversion(), fresh).adjust(want, rows_of(fresh, [at_once]))
    torch.testing.assert_close(logits, want)


def test_a_place_remembers_nothing_of_who_held_it_before() -> None:
    first = row([1, 1, 2], 1, repetition_penalty=2.0, logit_bias={3: 9.0}, top_k=1, min_tokens=9)
    state = state_of([first], 5, eos=(4,))
    for second in (row(), row([2, 2], 1, presence_penalty=1.0)):
        state.admit([0], [second.start])
        fresh = state_of([second], 5, eos=(4,))
        assert torch.equal(state.columns[:, 0], fresh.columns[:, 0])
        if looks_back(second.params):
            assert torch.equal(state.counts[0], fresh.counts[0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("logits", "reason"),
    [
        ([0.0, math.nan, 1.0], NOT_FINITE),
        ([0.0, math.inf, 1.0], NOT_FINITE),
        ([-math.inf] * 3, NOTHING),
    ],
)
def test_logits_without_a_token_say_so(
    logits: list[float], reason: int, temperature: float
) -> None:
    both = torch.tensor([logits, [0.0, 9.0, -math.inf]])
    for top_k in (0, 2):
        cases = [row(temperature=temperature, top_k=top_k), row(temperature=0)]
        assert sample(both, cases) == [reason, 1], "and the neighbour does not mind"


def test_what_a_step_does_is_what_its_rows_ask_for() -> None:
    def ask(num_output: int = 5, **params: Any) -> Draw:
        return draw_of(
            [(SamplingParams(temperature=0.5), 0), (SamplingParams(**params), num_output)]
        )

    assert ask() == PLAIN == Draw(False, False, NO_SCORES)
    for truncating in ({"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}):
        assert ask(**truncating) == TRUNCATED, truncating
    for editing in (
        {"logit_bias": {3: 1.0}}, {"presence_penalty": 1.0}, {"repetition_penalty": 1.1},
        {"min_tokens": 6},
    ):  # fmt: skip
        assert ask(**editing) == Draw(edited=True), editing
    assert ask(min_tokens=5) == PLAIN, "it has them"
    assert ask(logprobs=0) == Draw(num_top=0)
    assert ask(logprobs=5) == Draw(num_top=8)
    assert ask(logprobs=100, top_k=1, min_tokens=6) == Draw(True, True, 128)


def test_logprobs_are_the_models_own() -> None:
    logits = torch.randn(2, 50)
    rows = [
        row(temperature=0.3, top_k=1, logprobs=3, logit_bias={4: 100.0}),
        row(temperature=0),
    ]
    first, second = drawn(logits, rows)
    own = torch.log_softmax(logits[0], -1)
    assert first.token_id == 4
    assert first.logprob == pytest.approx(own[4].item())
    assert [t for t, _ in first.top] == own.topk(3).indices.tolist()
    assert [v for _, v in first.top] == pytest.approx(own.topk(3).values.tolist())
    assert math.isnan(second.logprob)


def test_more_edited_tokens_than_there_is_room_for_are_refused() -> None:
    SamplingParams(logit_bias=dict.fromkeys(range(1024), 1.0))
    with pytest.raises(InputError, match=r"logit_bias.*at most 1024 tokens together, not 1025"):
        SamplingParams(
            logit_bias=dict.fromkeys(range(1000), 1.0),
            stop_token_ids=tuple(range(25)),
            min_tokens=1,
        )


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
