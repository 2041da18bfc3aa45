"""Penalties, biases and forbidden tokens in Triton against their formulas in torch."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from pellucid.kernels.columns import Column
from pellucid.kernels.reference import adjust as twin
from pellucid.kernels.rows import draw_keys
from pellucid.kernels.rows import prepare as prepare_twin
from pellucid.kernels.triton.adjust import adjust
from pellucid.kernels.triton.inputs import prepare
from pellucid.request import SamplingParams, SequenceStart, looks_back
from pellucid.sampling.state import SamplingState

VOCAB = 5000  # more than one program's chunk

PARAMS = st.builds(
    SamplingParams,
    repetition_penalty=st.sampled_from([1.0, 1.5, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.7, -0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.3]),
    logit_bias=st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-9, 9), max_size=3),
    stop_token_ids=st.lists(st.integers(0, VOCAB - 1), max_size=200).map(tuple),
    min_tokens=st.sampled_from([0, 3, 9]),
)
CASES = st.lists(
    st.tuples(PARAMS, st.lists(st.integers(0, 40), min_size=1, max_size=9), st.integers(0, 3)),
    min_size=1,
    max_size=4,
)


def state_of(cases: list[tuple[SamplingParams, list[int], int]], device: str) -> SamplingState:
    """A state in which the host knows all but the last tokens, `late` of them."""
    state = SamplingState(len(cases), VOCAB, (7, 4999), torch.device(device))
    starts = []
    for i, (params, tokens, late) in enumerate(cases):
        known = tokens[: max(1, len(tokens) - late)]
        starts.append(
            SequenceStart(
                seq_id=i,
                params=params,
                seed=i * 2**61 - 5,
                num_prompt=1,
                num_known=len(known),
                tokens=known if looks_back(params) else [],
            )
        )
    state.admit(range(len(cases)), starts)
    return state


@settings(max_examples=12, deadline=None)
@given(cases=CASES, seed=st.integers(0, 9))
def test_logits_and_counts_are_those_of_the_twin(
    device: str, cases: list[tuple[SamplingParams, list[int], int]], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = [state_of(cases, device) for _ in range(2)]
    places = torch.randperm(len(cases), generator=generator).to(device)
    # A padding row stands behind the others.
    places = torch.cat((places, torch.tensor([len(cases)], device=device)))
    order = places[:-1].tolist()
    lasts = torch.tensor([*(cases[i][1][-1] for i in order), 0], device=device)
    ends = torch.tensor([*(len(cases[i][1]) - 1 for i in order), 0], device=device)
    logits = torch.randn(len(cases) + 1, VOCAB, generator=generator).to(device)
    got, want = logits.clone(), logits.clone()
    for function, state, x in ((adjust, states[0], got), (twin.adjust, states[1], want)):
        function(
            x,
            places,
            lasts,
            ends,
            state.columns[:, places],
            state.counts,
            state.edit_tokens,
            state.edit_values,
        )
    torch.testing.assert_close(got, want)
    assert torch.equal(states[0].counts, states[1].counts)
    assert torch.equal(got[-1], logits[-1]), "padding asks for nothing"


@settings(max_examples=12, deadline=None)
@given(
    positions=st.lists(st.integers(0, 63), min_size=1, max_size=5),
    page=st.sampled_from([4, 16]),
    seed=st.integers(0, 99),
)
def test_what_a_row_needs_is_looked_up_by_place(
    device: str, positions: list[int], page: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    num, size = len(positions), 9
    tables = torch.randint(0, 99, (size, 64 // page), generator=generator).int().to(device)
    columns = torch.randint(-(2**31), 2**31 - 1, (len(Column), size), generator=generator)
    sampled = torch.arange(100, 100 + size)
    sampled[3] = -1  # no token could be drawn
    tokens = torch.randint(-size, 50, (num,), generator=generator)
    places, draw_places = (torch.randint(0, size, (num,), generator=generator) for _ in range(2))
    out = [torch.full((num, 64 // page), -1, dtype=torch.int32, device=device) for _ in range(2)]
    inputs: list[Any] = [
        *(t.to(device) for t in (tokens, torch.tensor(positions), places, draw_places)),
        *(tables, columns.int().to(device), sampled.to(device), page),
    ]
    calls: tuple[Any, Any] = prepare, prepare_twin
    got, want = (call(*inputs, rows) for call, rows in zip(calls, out, strict=True))
    for name in ("tokens", "slots", "contexts", "keys", "settings"):
        assert torch.equal(getattr(got, name), getattr(want, name)), name
    for i, position in enumerate(positions):
        used = position // page + 1
        assert torch.equal(got.tables[i, :used], want.tables[i, :used])
    assert torch.equal(got.keys, draw_keys(got.settings, inputs[1]))
    assert got.tokens.min() >= 0, "an index that the embedding can look up"
