"""/v1/chat/completions through the real client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from fake_engine import BOS, CONTEXT_LENGTH, FakeEngine, letters
from fake_server import Running

USER: Any = [{"role": "user", "content": "hi"}]


def sent(server: Running) -> str:
    """The prompt that the engine was given, without its BOS."""
    assert server.engine
    first, *rest = server.engine.requests[-1].prompt_token_ids
    assert first == BOS
    return bytes(rest).decode()


def test_answer(server: Running) -> None:
    answer = server.openai().chat.completions.create(model="fake", messages=USER)
    message = answer.choices[0].message
    assert (message.role, message.content) == ("assistant", letters(0, 40))
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage and answer.usage.completion_tokens == 40
    assert sent(server) == "[user]hi\n[assistant]"
    assert server.engine and server.engine.requests[0].params.max_tokens is None


def test_content_parts_and_roles(server: Running) -> None:
    messages: Any = [
        {"role": "developer", "content": "be brief", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("one", "two")]},
        {"role": "assistant", "content": "ok", "refusal": None, "tool_calls": []},
        {"role": "user", "content": "go"},
    ]
    server.openai().chat.completions.create(model="fake", messages=messages)
    want = "[system=boss]be brief\n[user]one\ntwo\n[assistant]ok\n[user]go\n[assistant]"
    assert sent(server) == want


def test_an_answer_can_be_sent_back(server: Running) -> None:
    client = server.openai()
    answer = client.chat.completions.create(model="fake", messages=USER, max_tokens=2)
    history: Any = [*USER, answer.choices[0].message.model_dump(), *USER]
    client.chat.completions.create(model="fake", messages=history)
    assert sent(server) == "[user]hi\n[assistant]ab\n[user]hi\n[assistant]"


def test_special_tokens_in_messages_are_text(server: Running) -> None:
    messages: Any = [{"role": "user", "content": "<eos>"}]
    server.openai().chat.completions.create(model="fake", messages=messages)
    assert sent(server) == "[user]<eos>\n[assistant]"


@pytest.mark.parametrize(
    ("message", "want"),
    [
        ({"role": "user", "content": "a", "type": "text"}, "[user]a\n"),
        ({"role": "user", "content": "a", "cache_control": {"type": "ephemeral"}}, "[user]a\n"),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            },
            "[user]a\n",
        ),
        ({"role": "assistant", "content": None}, "[assistant]\n"),
        ({"role": "assistant"}, "[assistant]\n"),
        (
            {"role": "assistant", "content": "a", "reasoning_content": "hm"},
            "[assistant]<hm|hm>a\n",
        ),
        ({"role": "assistant", "content": "a", "reasoning": "hm"}, "[assistant]<hm|hm>a\n"),
    ],
)
def test_shapes_of_messages(server: Running, message: Any, want: str) -> None:
    response = server.http().post("/v1/chat/completions", json={"messages": [message]})
    assert response.status_code == 200, response.text
    assert sent(server) == want + "[assistant]"
    tokens = server.http().post("/tokenize", json={"messages": [message]}).json()["tokens"]
    assert bytes(tokens[1:]).decode() == sent(server), "/tokenize says what a chat sends"


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, "[user]hi\n[assistant]We\n[assistant]"),
        ({"add_generation_prompt": False}, "[user]hi\n[assistant]We\n"),
        ({"continue_final_message": True}, "[user]hi\n[assistant]We"),
        (
            {"continue_final_message": True, "add_generation_prompt": False},
            "[user]hi\n[assistant]We",
        ),
        ({"reasoning_effort": "low"}, "[user]hi\n[assistant]We\n[assistant](thinks low)"),
        (
            {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "low"}},
            "[user]hi\n[assistant]We\n[assistant](thinks low)",
        ),
    ],
)
def test_how_the_prompt_ends(server: Running, fields: Any, want: str) -> None:
    body = {"messages": [*USER, {"role": "assistant", "content": "We"}], **fields}
    assert server.http().post("/v1/chat/completions", json=body).status_code == 200
    assert sent(server) == want
    tokens = server.http().post("/tokenize", json=body).json()["tokens"]
    assert bytes(tokens[1:]).decode() == want


TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


def test_tools_are_refused_with_the_remedy(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="--drop-tools"):
        server.openai().chat.completions.create(model="fake", messages=USER, tools=[TOOL])  # type: ignore[list-item]


@pytest.mark.parametrize("stream", [False, True])
def test_tools_can_be_dropped(start: Any, stream: bool) -> None:
    body = {"messages": USER, "tools": [TOOL], "tool_choice": "auto", "stream": stream}
    with start(FakeEngine(), drop_tools=True) as server:
        response = server.http().post("/v1/chat/completions", json=body)
        assert response.status_code == 200
        assert response.headers["warning"] == '299 pellucid "dropped, as --drop-tools says: tools"'
        plain = server.http().post("/v1/chat/completions", json={"messages": USER})
        assert "warning" not in plain.headers
        for choice in ("required", {"type": "function", "function": {"name": "now"}}):
            response = server.http().post(
                "/v1/chat/completions", json={**body, "tool_choice": choice}
            )
            assert response.status_code == 400, "a call that must be made is not dropped"
            assert response.json()["error"]["param"] == "tool_choice"


def test_template_variables(server: Running) -> None:
    server.openai().chat.completions.create(
        model="fake", messages=USER, extra_body={"chat_template_kwargs": {"mood": "calm"}}
    )
    assert sent(server).endswith("(calm)")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens(server: Running, name: str) -> None:
    fields: Any = {name: 3}
    answer = server.openai().chat.completions.create(model="fake", messages=USER, **fields)
    assert answer.choices[0].message.content == "abc"
    assert answer.choices[0].finish_reason == "length"


def test_both_max_tokens(server: Running) -> None:
    client = server.openai()
    with pytest.raises(openai.BadRequestError, match="differ"):
        client.chat.completions.create(
            model="fake", messages=USER, max_tokens=3, max_completion_tokens=4
        )
    client.chat.completions.create(
        model="fake", messages=USER, max_tokens=3, max_completion_tokens=3
    )


def test_logprobs(server: Running) -> None:
    answer = server.openai().chat.completions.create(
        model="fake", messages=USER, max_tokens=2, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs and logprobs.content
    first, second = logprobs.content
    assert (first.token, first.bytes, first.logprob) == ("a", [97], -0.25)
    assert [top.token for top in first.top_logprobs] == ["a", "A"]
    assert first.top_logprobs[0].logprob == first.logprob
    assert second.logprob == -7.5 and len(second.top_logprobs) == 2


def test_no_top_logprobs_need_no_logprobs(server: Running) -> None:
    body = {"messages": USER, "max_tokens": 2, "logprobs": False, "top_logprobs": 0}
    response = server.http().post("/v1/chat/completions", json=body)
    assert response.status_code == 200 and response.json()["choices"][0]["logprobs"] is None


def test_logprobs_without_top(server: Running) -> None:
    answer = server.openai().chat.completions.create(
        model="fake", messages=USER, max_tokens=2, logprobs=True
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs and logprobs.content and logprobs.content[0].top_logprobs == []


def test_stream(server: Running) -> None:
    chunks = list(
        server.openai().chat.completions.create(
            model="fake",
            messages=USER,
            n=2,
            max_tokens=5,
            stream=True,
            logprobs=True,
            stream_options={"include_usage": True},
        )
    )
    *body, last = chunks
    assert last.choices == [] and last.usage and last.usage.completion_tokens == 10
    for index in (0, 1):
        mine = [c.choices[0] for c in body if c.choices[0].index == index]
        role, *content, end = mine
        assert role.delta.role == "assistant" and role.delta.content == ""
        assert "".join(choice.delta.content or "" for choice in content) == letters(index, 5)
        assert sum(len(c.logprobs.content or []) for c in content if c.logprobs) == 5
        assert end.finish_reason == "length" and end.delta.content is None
        assert all(choice.finish_reason is None for choice in [role, *content])
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


def test_stream_helper(server: Running) -> None:
    """The client's own accumulator agrees with the plain answer."""
    client = server.openai()
    with client.chat.completions.stream(model="fake", messages=USER, stop="j") as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == letters(0, 9)
    assert final.choices[0].finish_reason == "stop"


def test_context(server: Running) -> None:
    messages: Any = [{"role": "user", "content": "x" * CONTEXT_LENGTH}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="maximum context length is 2048") as info:
            server.openai().chat.completions.create(model="fake", messages=messages, stream=stream)
        assert info.value.code == "context_length_exceeded"
