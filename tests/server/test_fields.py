"""Every field is honoured, a documented no-op, or refused by name; none is ignored."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from fake_engine import FakeEngine
from fake_server import Running
from openai.resources.chat.completions import Completions as ChatCompletions
from openai.resources.completions import Completions

from pellucid.request import SamplingParams
from pellucid.server import fields, schemas
from pellucid.server.messages import Templated

CLIENT_ONLY = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
CHAT = {"messages": [{"role": "user", "content": "x"}]}
TEXT = {"prompt": "x"}

# One value per sampling parameter that is not its default.
EFFECTS: dict[str, Any] = {
    "max_tokens": 7,
    "min_tokens": 3,
    "temperature": 0.5,
    "top_k": 5,
    "top_p": 0.5,
    "min_p": 0.1,
    "repetition_penalty": 1.5,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"65": -3},
    "seed": 11,
    "n": 2,
    "stop": ["x", "y"],
    "stop_token_ids": [66],
    "ignore_eos": True,
    "skip_special_tokens": False,
    "prompt_logprobs": 1,
}


def post(server: Running, path: str, body: dict[str, Any]) -> Any:
    return server.http().post(path, json=body)


@pytest.mark.parametrize(
    ("resource", "body", "noops", "refused"),
    [
        (Completions, schemas.CompletionBody, fields.NOOPS, fields.REFUSED),
        (
            ChatCompletions,
            schemas.ChatBody,
            fields.CHAT_NOOPS,
            {**fields.CHAT_REFUSED, **fields.TOOLS},
        ),
    ],
)
def test_every_field_of_the_client_is_known(
    resource: Any, body: Any, noops: Any, refused: Any
) -> None:
    fields = set(inspect.signature(resource.create).parameters) - CLIENT_ONLY
    known = {*body.__struct_fields__, *noops, *refused}
    assert fields <= known, "a field of OpenAI's that is in none of the three lists"
    assert not set(noops) & set(refused) and not set(noops) & set(body.__struct_fields__)


def test_effects_cover_all_sampling_params() -> None:
    assert set(EFFECTS) | {"logprobs"} == set(SamplingParams.__struct_fields__)


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_field_reaches_the_engine(server: Running, path: str, name: str) -> None:
    base = CHAT if "chat" in path else TEXT
    response = post(server, path, {**base, name: EFFECTS[name]})
    assert response.status_code == 200, response.text
    assert server.engine
    got = getattr(server.engine.requests[-1].params, name)
    want = EFFECTS[name]
    if isinstance(want, list):
        want = tuple(want)
    if isinstance(want, dict):
        want = {65: -3.0}
    assert got == want
    assert getattr(SamplingParams(), name) != want, "a default would prove nothing"


@pytest.mark.parametrize(
    ("path", "fields", "want"),
    [
        ("/v1/completions", {"logprobs": 3}, 3),
        ("/v1/completions", {"logprobs": 0}, 0),
        ("/v1/completions", {}, None),
        ("/v1/chat/completions", {"logprobs": True}, 0),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 4}, 4),
        ("/v1/chat/completions", {"logprobs": False}, None),
    ],
)
def test_logprobs_reach_the_engine(
    server: Running, path: str, fields: dict[str, Any], want: int | None
) -> None:
    base = CHAT if "chat" in path else TEXT
    assert post(server, path, {**base, **fields}).status_code == 200
    assert server.engine and server.engine.requests[-1].params.logprobs == want


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_null_is_absent_and_noops_are_accepted(server: Running, path: str) -> None:
    base = CHAT if "chat" in path else TEXT
    names = [*EFFECTS, "stream", "stream_options", "logprobs", "echo", "tools", "audio", "suffix"]
    kind = schemas.ChatBody if "chat" in path else schemas.CompletionBody
    nulls = dict.fromkeys([n for n in names if n in kind.__struct_fields__])
    noops = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    assert post(server, path, {**base, **nulls, **noops}).status_code == 200
    assert server.engine
    params = server.engine.requests[-1].params
    assert params == SamplingParams(max_tokens=None if "chat" in path else 16)


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("chat", {"tools": [{"type": "function"}]}, "tools"),
    ("chat", {"tool_choice": "required"}, "tool_choice"),
    ("chat", {"functions": [{}]}, "functions"),
    ("chat", {"response_format": {"type": "json_object"}}, "response_format"),
    ("chat", {"modalities": ["text", "audio"]}, "modalities"),
    ("chat", {"audio": {"voice": "alloy"}}, "audio"),
    ("chat", {"prediction": {"type": "content"}}, "prediction"),
    ("chat", {"web_search_options": {}}, "web_search_options"),
    ("chat", {"reasoning_effort": 5}, "reasoning_effort"),
    ("chat", {"verbosity": "low"}, "verbosity"),
    ("chat", {"best_of": 2}, "best_of"),
    ("chat", {"max_tokens": 0}, "max_tokens"),
    (
        "chat",
        {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}},
        "reasoning_effort",
    ),
    (
        "chat",
        {"add_generation_prompt": True, "continue_final_message": True},
        "continue_final_message",
    ),
    ("chat", {"top_logprobs": 2}, "top_logprobs"),
    ("chat", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ("chat", {"logprobs": 2}, "logprobs"),
    ("chat", {"echo": True}, "echo"),
    ("chat", {"messages": []}, "messages"),
    ("chat", {"messages": "hi"}, "messages"),
    ("chat", {"messages": ["hi"]}, "messages[0]"),
    ("chat", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ("chat", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ("chat", {"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0].mood"),
    (
        "chat",
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
        "messages[0].tool_calls",
    ),
    (
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0].type",
    ),
    (
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        "messages[0].content[0].text",
    ),
    ("text", {"suffix": "x"}, "suffix"),
    ("text", {"best_of": 3}, "best_of"),
    ("text", {"logprobs": True}, "logprobs"),
    ("text", {"logprobs": 101}, "logprobs"),
    ("text", {"prompt": []}, "prompt"),
    ("text", {"prompt": [[]]}, "prompt"),
    ("text", {"prompt": ["a", 1]}, "prompt"),
    ("text", {"prompt": [-1]}, "prompt"),
    ("text", {"prompt": [260]}, "prompt"),
    ("text", {"prompt": ["a"] * 1025}, "prompt"),
    ("text", {"prompt": None}, "prompt"),
    ("text", {"prompt": {"a": 1}}, "prompt"),
    ("text", {"max_tokens": 0}, "max_tokens"),
    ("text", {"reasoning_effort": "low"}, "reasoning_effort"),
    ("both", {"mirostat": 1}, "mirostat"),
    ("both", {"num_ctx": 1}, "num_ctx"),
    ("both", {"use_beam_search": True}, "use_beam_search"),
    ("both", {"length_penalty": 0.5}, "length_penalty"),
    ("both", {"response_format": {"type": "json_object"}}, "response_format"),
    ("both", {"guided_json": {}}, "guided_json"),
    ("both", {"priority": 1}, "priority"),
    ("both", {"repeat_penalty": 1.5, "repetition_penalty": 1.2}, "repeat_penalty"),
    ("both", {"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ("both", {"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ("both", {"stream_options": {"include_usage": True}}, "stream_options"),
    ("both", {"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
    (
        "both",
        {"stream": True, "stream_options": {"include_usage": 1}},
        "stream_options.include_usage",
    ),
    ("both", {"stream": "yes"}, "stream"),
    ("both", {"temperature": -1}, "temperature"),
    ("both", {"temperature": "hot"}, "temperature"),
    ("both", {"top_p": 1.5}, "top_p"),
    ("both", {"top_k": -2}, "top_k"),
    ("both", {"top_k": 1.5}, "top_k"),
    ("both", {"max_tokens": -2}, "max_tokens"),
    ("both", {"min_tokens": 20, "max_tokens": 10}, "min_tokens"),
    ("both", {"n": 0}, "n"),
    ("both", {"n": 10**6}, "n"),
    ("both", {"seed": 2**70}, "seed"),
    ("both", {"stop": [""]}, "stop"),
    ("both", {"stop": ["x"] * 33}, "stop"),
    ("both", {"stop": [1]}, "stop[0]"),
    ("both", {"logit_bias": {"65": 101}}, "logit_bias"),
    ("both", {"logit_bias": {"word": 1}}, "logit_bias"),
    ("both", {"presence_penalty": 3}, "presence_penalty"),
    ("both", {"model": 5}, "model"),
]


@pytest.mark.parametrize(("kind", "fields", "param"), REFUSALS)
def test_refused_by_name(server: Running, kind: str, fields: dict[str, Any], param: str) -> None:
    paths: dict[str, list[dict[str, Any]]] = {"text": [TEXT], "chat": [CHAT], "both": [TEXT, CHAT]}
    for base in paths[kind]:
        path = "/v1/chat/completions" if base is CHAT else "/v1/completions"
        response = post(server, path, {**base, **fields})
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert error["param"] == param, error
        assert param.split(".")[-1].split("[")[0] in error["message"]
        assert "\n" not in error["message"]
    assert server.engine and not server.engine.has_work


HARMLESS: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"tools": [], "tool_choice": "none", "parallel_tool_calls": True}),
    ("chat", {"tool_choice": "auto"}),
    ("chat", {"logprobs": False, "top_logprobs": 0}),
    ("chat", {"modalities": ["text"], "verbosity": "medium"}),
    ("chat", {"best_of": 1, "echo": False, "documents": [], "mm_processor_kwargs": {}}),
    ("chat", {"add_generation_prompt": True, "continue_final_message": False}),
    ("both", {"response_format": {"type": "text"}}),
    ("both", {"stream": True, "stream_options": {"include_obfuscation": True}}),
    ("both", {"use_beam_search": False, "length_penalty": 1, "early_stopping": False}),
    ("both", {"include_stop_str_in_output": False, "spaces_between_special_tokens": True}),
    ("both", {"priority": 0, "request_id": "a", "cache_salt": "b", "cache_prompt": True}),
    ("both", {"guided_decoding_backend": "auto", "logits_processors": [], "bad_words": []}),
    ("both", {"typical_p": 1, "mirostat": 0, "top_k": -1, "max_tokens": -1, "seed": -1}),
]


@pytest.mark.parametrize(("kind", "sent"), HARMLESS)
def test_values_that_ask_for_nothing(server: Running, kind: str, sent: dict[str, Any]) -> None:
    """They are accepted, and what is generated is what it would be without them."""
    for path, base in (("/v1/completions", TEXT), ("/v1/chat/completions", CHAT)):
        if kind == "chat" and base is TEXT:
            continue
        response = post(server, path, {**base, "max_tokens": 5, **sent})
        assert response.status_code == 200, response.text
        assert server.engine
        limit = None if sent.get("max_tokens") == -1 else 5
        assert server.engine.requests[-1].params == SamplingParams(max_tokens=limit)


def test_repeat_penalty_is_another_name(server: Running) -> None:
    for path, base in (("/v1/completions", TEXT), ("/v1/chat/completions", CHAT)):
        assert post(server, path, {**base, "repeat_penalty": 1.5}).status_code == 200
        assert server.engine
        assert server.engine.requests[-1].params.repetition_penalty == 1.5


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_the_models_defaults_stand_behind_what_is_sent(start: Any, path: str) -> None:
    base = CHAT if "chat" in path else TEXT
    defaults: dict[str, Any] = {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1}
    with start(FakeEngine(), sampling_defaults=defaults) as server:

        def params(**sent: Any) -> SamplingParams:
            response = post(server, path, {**base, "max_tokens": 3, **sent})
            assert response.status_code == 200, response.text
            got: SamplingParams = server.engine.requests[-1].params
            return got

        assert params() == SamplingParams(max_tokens=3, **defaults)
        assert params(temperature=None) == SamplingParams(max_tokens=3, **defaults)
        assert params(temperature=1, top_k=-1, repeat_penalty=1) == SamplingParams(max_tokens=3)


def test_chats_have_the_fields_of_templated() -> None:
    ours = schemas.ChatBody.__annotations__
    assert all(ours[name] == kind for name, kind in Templated.__annotations__.items())


def test_best_of_n(server: Running) -> None:
    assert post(server, "/v1/completions", {**TEXT, "best_of": 2, "n": 2}).status_code == 200
    assert post(server, "/v1/completions", {**TEXT, "best_of": 1}).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("top_k", 200), ("max_tokens", 400)])
def test_counts_beyond_any_number(server: Running, name: str, status: int) -> None:
    body = {**TEXT, "max_tokens": 1, name: 1 << 70}
    assert post(server, "/v1/completions", body).status_code == status


@pytest.mark.parametrize(
    ("field", "value"), [("stop_token_ids", [1 << 64]), ("logit_bias", {str(1 << 64): 1})]
)
def test_ids_beyond_any_number_are_refused(server: Running, field: str, value: Any) -> None:
    response = post(server, "/v1/completions", {**TEXT, field: value})
    assert response.status_code == 400 and response.json()["error"]["param"] == field
