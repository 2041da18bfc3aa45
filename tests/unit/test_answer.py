"""What an answer makes of its tokens: text, ends, limits, log-probabilities."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pellucid.answer import Answer
from pellucid.request import Output, Request, SamplingParams, TokenLogprob
from pellucid.text.stop import StopMatcher
from pellucid.text.stream import Text

EOS = 0


class Letters:
    """Token 1 is "a", 2 is "b", and so on."""

    def __init__(self, params: SamplingParams) -> None:
        self._stops = StopMatcher(params.stop)

    @property
    def stopped(self) -> str | None:
        return self._stops.stopped

    def push(self, token_ids: Any, *, may_stop: bool = True) -> str:
        text = "".join(chr(96 + token) for token in token_ids)
        return self._stops.push(text) if may_stop else text

    def finish(self) -> str:
        return self._stops.finish()


def answer(limit: int = 100, **params: Any) -> Answer:
    request = Request(id="r", prompt_token_ids=[7, 8], params=SamplingParams(**params))
    text: Text = Letters(request.params)
    return Answer(request, 0, limit=limit, end_tokens=frozenset({EOS}), text=text, arrival=0.0)


def tell(tokens: list[int], sizes: list[int], **params: Any) -> Output:
    """The answer's outputs joined, its tokens landing in pieces of these sizes."""
    one, whole = answer(**params), Output(request_id="r")
    rest = list(tokens)
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        if not piece or whole.finish_reason:
            break
        scores = [TokenLogprob(token, -1.0) for token in piece]
        whole.extend(one.take(piece, scores, 1.0))
    return whole


@given(
    tokens=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    sizes=st.lists(st.integers(1, 4), min_size=12, max_size=12),
    stop=st.sampled_from([(), ("ab",), ("c", "bcd")]),
    limit=st.integers(3, 14),
    min_tokens=st.integers(0, 3),
    logprobs=st.sampled_from([None, 0]),
)
def test_how_many_tokens_land_at_a_time_changes_nothing(
    tokens: list[int],
    sizes: list[int],
    stop: tuple[str, ...],
    limit: int,
    min_tokens: int,
    logprobs: int | None,
) -> None:
    settings: dict[str, Any] = {
        "stop": stop, "limit": limit, "min_tokens": min_tokens, "logprobs": logprobs,
    }  # fmt: skip
    one_by_one = tell(tokens, [1] * 12, **settings)
    assert tell(tokens, sizes, **settings) == one_by_one
    assert len(one_by_one.logprobs or []) == (0 if logprobs is None else len(one_by_one.token_ids))


def test_tokens_behind_the_end_are_dropped() -> None:
    output = answer().take([1, 2, EOS, 3], None, 1.0)
    assert (output.token_ids, output.text, output.finish_reason) == ([1, 2, EOS], "ab", "stop")
    output = answer(stop_token_ids=(2,)).take([1, 2, 3], None, 1.0)
    assert (output.token_ids, output.stop_reason) == ([1, 2], 2)
    output = answer(limit=4).take([1, 1, 1], None, 1.0)
    assert (output.token_ids, output.finish_reason) == ([1, 1], "length")
    assert output.stats is not None and output.stats.num_output_tokens == 2


@pytest.mark.parametrize("min_tokens", [0, 1, 2, 3])
def test_a_stop_string_counts_only_behind_min_tokens(min_tokens: int) -> None:
    output = tell([2, 2, 2, 2, 2], [1] * 5, stop=("b",), min_tokens=min_tokens)
    assert len(output.token_ids) == min_tokens + 1
    assert output.text == "b" * min_tokens
    assert (output.finish_reason, output.stop_reason) == ("stop", "b")


def test_an_error_keeps_what_was_said() -> None:
    one = answer(stop=("abc",))
    assert one.take([1, 2], None, 1.0).text == ""  # may become the stop string
    output = one.fail("a kernel failed", 2.0)
    assert (output.finish_reason, output.error, output.text) == ("error", "a kernel failed", "ab")
    assert output.stats is not None and output.stats.total_s == 2.0
