"""The small routes: models, tokens, health."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import BOS, CONTEXT_LENGTH, EOS, TEMPLATE, FakeEngine
from fake_server import Running
from hypothesis import given, settings
from hypothesis import strategies as st

import pellucid


def test_models(server: Running) -> None:
    client = server.openai()
    assert [model.id for model in client.models.list()] == ["fake", "alias"]
    model = client.models.retrieve("alias")
    assert (model.object, model.owned_by) == ("model", "pellucid")
    assert model.to_dict()["max_model_len"] == CONTEXT_LENGTH


def test_health(server: Running) -> None:
    health = server.http().get("/health").json()
    assert health["status"] == "ok" and health["fresh"] is True
    assert health["num_running"] == health["num_waiting"] == health["num_blocks_used"] == 0
    assert health["num_blocks"] == 512


def test_index(server: Running) -> None:
    assert "/v1/completions" in server.http().get("/").json()["routes"]


def test_tokenize(server: Running) -> None:
    http = server.http()
    answer = http.post("/tokenize", json={"prompt": "ab"}).json()
    assert answer == {"tokens": [BOS, 97, 98], "count": 3, "max_model_len": CONTEXT_LENGTH}
    plain = http.post("/tokenize", json={"prompt": "ab", "add_special_tokens": False}).json()
    assert plain["tokens"] == [97, 98]
    strs = http.post("/tokenize", json={"prompt": "é<eos>", "return_token_strs": True}).json()
    assert strs["tokens"] == [BOS, *"é".encode(), EOS]
    assert strs["token_strs"] == ["<bos>", "bytes:\\xc3", "bytes:\\xa9", "<eos>"]
    text = http.post("/tokenize", json={"prompt": "<eos>", "parse_special": False}).json()
    assert text["tokens"] == [BOS, *b"<eos>"]


def test_tokenize_chat(server: Running) -> None:
    body = {"messages": [{"role": "user", "content": "<eos>"}], "return_token_strs": True}
    answer = server.http().post("/tokenize", json=body).json()
    want = [BOS, *b"[user]<eos>\n[assistant]"]
    assert answer["tokens"] == want, "names of special tokens in a message are text"
    assert answer["token_strs"] == ["<bos>", *"[user]<eos>\n[assistant]"]
    assert answer["count"] == len(want)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a", "x": 1}, "x"),
        ({}, "prompt"),
        ({"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a"}], "prompt": "a"}, "prompt"),
        ({"messages": [{"role": "user", "content": "a"}], "parse_special": True}, "parse_special"),
        ({"messages": [{"role": "user", "content": "a"}], "temperature": 1}, "temperature"),
    ],
)
def test_tokenize_refuses_by_name(server: Running, body: Any, param: str) -> None:
    response = server.http().post("/tokenize", json=body)
    assert response.status_code == 400 and response.json()["error"]["param"] == param
    assert param.split(".")[-1] in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["//v1/models", "/v1/models/", "/v1//models//", "/models"])
def test_base_urls_typed_by_hand(server: Running, path: str) -> None:
    url = server.url + path  # httpx would join a path with two slashes to the host
    assert server.http().get(url).json()["data"][0]["id"] == "fake"


def test_routes_without_their_prefix(server: Running) -> None:
    http = server.http()
    assert http.get("/models/alias/").json()["id"] == "alias"
    assert http.post("/completions", json={"prompt": "x"}).status_code == 200
    chat = {"messages": [{"role": "user", "content": "x"}]}
    assert http.post("/chat/completions/", json=chat).status_code == 200


def test_ping_and_version(server: Running) -> None:
    http = server.http()
    assert http.get("/ping").json()["status"] == http.post("/ping").json()["status"] == "ok"
    assert http.get("/version").json() == {"version": pellucid.__version__}


def test_models_show_sampling_defaults(start: Any) -> None:
    with start(FakeEngine(), sampling_defaults={"temperature": 0.6, "top_k": 20}) as server:
        card = server.http().get("/v1/models/fake").json()
        assert card["sampling_defaults"] == {"temperature": 0.6, "top_k": 20}


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=50))
def test_round_trip(shared: Running, text: str) -> None:
    http = shared.http()
    body = {"prompt": text, "add_special_tokens": False}
    ids = http.post("/tokenize", json=body).json()
    assert http.post("/detokenize", json={"tokens": ids["tokens"]}).json() == {"prompt": text}


def test_detokenize_checks(server: Running) -> None:
    http = server.http()
    assert http.post("/detokenize", json={"tokens": [BOS, 97]}).json() == {"prompt": "<bos>a"}
    for tokens in ([-1], [10**6], ["a"], "a", None):
        response = http.post("/detokenize", json={"tokens": tokens})
        assert response.status_code == 400
        assert response.json()["error"]["param"].startswith("tokens")


def test_tokenizer_info(server: Running) -> None:
    assert server.http().get("/tokenizer_info").json() == {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "chat_template": TEMPLATE,
    }
