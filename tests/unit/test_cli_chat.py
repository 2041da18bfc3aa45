"""The chat in the terminal: commands, Ctrl-C, and what cannot chat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pellucid import LLM, InputError
from pellucid.cli import main
from pellucid.cli.chat import Chat, answer, ask
from pellucid.cli.sampling import changed
from pellucid.features import FEATURES
from pellucid.request import FinishReason, Output, SamplingParams

PARAMS = SamplingParams(temperature=0.2, max_tokens=1024)


class FakePieces:
    """A stream of text; None is the user's Ctrl-C."""

    def __init__(self, texts: list[str | None], reason: FinishReason) -> None:
        self.texts, self.reason, self.closed = iter(texts), reason, False

    def __iter__(self) -> Iterator[Output]:
        return self

    def __next__(self) -> Output:
        text = next(self.texts)
        if text is None:
            raise KeyboardInterrupt
        return Output(request_id="0", text=text, token_ids=[5], finish_reason=self.reason)

    def close(self) -> None:
        self.closed = True


class FakeLLM:
    """Remembers what it was asked; answers always the same."""

    def __init__(self, texts: list[str | None], reason: FinishReason = "stop") -> None:
        self.texts, self.reason = texts, reason
        self.engine = SimpleNamespace(info=SimpleNamespace(model="tiny"))
        self.asked: list[Any] = []

    def stream(self, messages: Any, params: SamplingParams) -> FakePieces:
        self.asked.append(([m["content"] for m in messages], params))
        self.pieces = FakePieces(list(self.texts), self.reason)
        return self.pieces


def chat_of(*texts: str | None, reason: FinishReason = "stop", system: str = "") -> tuple[Any, Any]:
    llm: Any = FakeLLM(list(texts), reason)
    return Chat(llm, PARAMS, system), llm


def test_ctrl_c_stops_the_answer_and_not_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    llm: Any = FakeLLM(["Hel", "lo", None])
    assert answer(llm, [], SamplingParams()) == "Hello"
    assert llm.pieces.closed
    assert "Hello [stopped]" in capsys.readouterr().out


def test_an_answer_that_was_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    chat, _ = chat_of("Once", reason="length")
    chat.take("tell")
    assert "Once [cut at 1 tokens; /set max_tokens -1 lifts the limit]" in capsys.readouterr().out


def test_a_conversation_grows_and_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    chat, llm = chat_of("yes", system="Be brief.")
    for line in ("one", "two", "/retry", "/clear", "three", "/system", "four"):
        chat.take(line)
    assert [asked for asked, _ in llm.asked] == [
        ["Be brief.", "one"],
        ["Be brief.", "one", "yes", "two"],
        ["Be brief.", "one", "yes", "two"],
        ["Be brief.", "three"],
        ["four"],
    ]
    assert capsys.readouterr().err == ""


def test_a_slash_is_a_command_and_two_are_one_to_the_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    chat, llm = chat_of("ok")
    chat.take("//etc is a folder")
    assert [asked for asked, _ in llm.asked] == [["/etc is a folder"]]
    chat.take("/clar")
    assert "/clar is no command. Did you mean /clear? There are /help" in capsys.readouterr().err
    chat.take("/help")
    assert "/system TEXT" in capsys.readouterr().out
    assert len(llm.asked) == 1


def test_parameters_are_shown_and_set(capsys: pytest.CaptureFixture[str]) -> None:
    chat, llm = chat_of("ok")
    chat.take("/set")
    assert capsys.readouterr().out == "max_tokens 1024, temperature 0.2\n"
    chat.take("/set max_tokens -1")
    chat.take("/set temperature 0")
    chat.take("/set stop two words")
    chat.take("hello")
    assert llm.asked[0][1] == SamplingParams(temperature=0, stop=("two words",))
    capsys.readouterr()
    for line, words in (
        ("/set temprature 1", "Did you mean temperature?"),
        ("/set top_p 2", "top_p must be between 0 and 1"),
        ("/set top_k many", "top_k cannot be 'many'"),
        ("/set n 2", "one answer at a time"),
    ):
        chat.take(line)
        assert words in capsys.readouterr().err


def test_switches_are_shown_and_changed(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"load_format": "dummy", "device": "cpu", "memory": 0.01}
    chat = Chat(LLM(str(tiny_folder), **options), PARAMS)
    chat.take("/switch kv_cache off")
    assert capsys.readouterr().out.split() == ["kv_cache", "off", "also", "on"]
    assert chat.llm.engine.info.switches["kv_cache"] == "off"
    chat.take("/switch")
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(FEATURES)
    assert next(row.split() for row in rows if "graphs" in row) == ["graphs", "off"]
    for line, words in (
        ("/switch kv_cach", "Did you mean kv_cache?"),
        ("/switch kv_cach on", "there is no switch 'kv_cach'"),
        ("/switch graphs on", "need an NVIDIA GPU"),
    ):
        chat.take(line)
        assert words in capsys.readouterr().err


def test_a_question_that_is_refused_leaves_nothing_behind() -> None:
    chat, llm = chat_of("ok")
    llm.stream = lambda *_: (_ for _ in ()).throw(InputError("too long"))
    chat.take("x" * 100)
    assert chat.messages == []
    chat.take("/retry")


def test_ids_and_biases_are_read_as_json() -> None:
    assert changed(PARAMS, "stop_token_ids", "[1, 2]").stop_token_ids == (1, 2)
    assert changed(PARAMS, "logit_bias", '{"7": -1}').logit_bias == {7: -1.0}
    with pytest.raises(InputError, match="logit_bias cannot be"):
        changed(PARAMS, "logit_bias", "{")


def test_ctrl_c_twice_at_the_prompt_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop, end = KeyboardInterrupt, EOFError
    typed: list[Any] = [stop, " hello ", stop, end, stop, stop]

    def read(_: str) -> str:
        line = typed.pop(0)
        if not isinstance(line, str):
            raise line
        return line

    monkeypatch.setattr("builtins.input", read)
    assert ask() == "hello"
    assert "Ctrl-C again" in capsys.readouterr().out
    assert ask() is None
    assert Chat.talk(chat_of()[0]) == 130


def test_a_model_without_a_template_is_refused_before_it_is_loaded(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = SimpleNamespace(chat_template=None)
    opened = SimpleNamespace(name="base", tokenizer=tokenizer, path=tiny_folder)
    monkeypatch.setattr("pellucid.cli.chat.open_checkpoint", lambda _: opened)
    assert main(["chat", "--model", "base"]) == 2
    assert "base has no chat template" in capsys.readouterr().err
    opened.tokenizer = None
    assert main(["chat", "--model", "base"]) == 2
    assert "has no tokenizer.json" in capsys.readouterr().err
    assert main(["chat", "--n", "2"]) == 2
