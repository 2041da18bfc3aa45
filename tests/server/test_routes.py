"""The small routes: models, tokens, health."""

from __future__ import annotations

from fake_engine import BOS, CONTEXT_LENGTH, TEMPLATE
from fake_server import Running
from hypothesis import given, settings
from hypothesis import strategies as st


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
    assert http.post("/tokenize", json={"prompt": "a", "x": 1}).json()["error"]["param"] == "x"


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=50))
def test_round_trip(shared: Running, text: str) -> None:
    http = shared.http()
    ids = http.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
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
