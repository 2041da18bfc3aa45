"""An answer that ends by an error of the engine is told, not shown as an empty one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pellucid.cli import chat, generate
from pellucid.request import Output, SamplingParams, raise_errors

REASON = "RuntimeError: an illegal instruction was met"


class Failing:
    """An LLM whose second prompt fails after its first token."""

    engine = SimpleNamespace(checkpoint=SimpleNamespace(tokenizer=object()))

    def pieces(self, number: int) -> Iterator[Output]:
        yield Output(request_id=str(number), token_ids=[5], text="five")
        if number == 1:
            yield Output(request_id="1", finish_reason="error", error=REASON)
        else:
            yield Output(request_id=str(number), token_ids=[6], text=" six", finish_reason="length")

    def stream(self, prompt: Any, params: Any) -> Iterator[Output]:
        yield from self.pieces(1)

    def stream_all(self, prompts: Any, params: Any) -> Iterator[tuple[int, Output]]:
        for number in range(len(prompts)):
            for piece in self.pieces(number):
                yield number, piece


def test_a_single_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.answer(Failing(), ["a"], SamplingParams(), None) == 1  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert out == "five\n"
    assert err == f"the answer failed: {REASON}\n"


def test_several_prompts_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    assert generate.answer(Failing(), ["a", "b"], SamplingParams(), file) == 1  # type: ignore[arg-type]
    records = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [record["error"] for record in records] == [None, REASON]
    assert f"an answer to prompt 1 failed: {REASON}" in capsys.readouterr().err


def test_chat(capsys: pytest.CaptureFixture[str]) -> None:
    said = chat.answer(Failing(), [], SamplingParams())  # type: ignore[arg-type]
    assert said == "five"
    assert f"[failed: {REASON}]" in capsys.readouterr().out


def test_no_figure_is_made_of_an_answer_that_failed() -> None:
    sound = Output(request_id="a", token_ids=[5])
    assert raise_errors([sound]) == [sound]
    with pytest.raises(RuntimeError, match=r"request b failed: .*illegal instruction"):
        raise_errors([sound, Output(request_id="b", finish_reason="error", error=REASON)])
