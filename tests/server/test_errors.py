"""OpenAI's error body on every failure, and the client's own exception classes."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import openai
import pytest
from fake_engine import FakeEngine
from fake_server import Running

from pellucid.request import Output
from pellucid.server.app import ROUTES
from pellucid.server.http import PAGE_FILES

CHAT = {"messages": [{"role": "user", "content": "x"}]}


def check(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and "\n" not in error["message"] and error["type"]
    assert code is None or error["code"] == code
    return error


def test_no_such_path(server: Running) -> None:
    http = server.http()
    check(http.get("/v1/nothing"), 404, "not_found")
    message = check(http.post("/v1/embeddings", json={}), 404)["message"]
    assert message.startswith("there is no POST /v1/embeddings here; this server generates text")
    assert "POST /v1/chat/completions" in message and "explorer" not in message
    message = check(http.get("/explorer/v1/nothing"), 404)["message"]
    assert "GET /explorer/v1/runs" in message


def test_wrong_method(server: Running) -> None:
    for route in ROUTES:
        path = route.path.replace("{model:path}", "fake")
        response = server.http().delete(path)
        error = check(response, 405, "method_not_allowed")
        assert response.headers["allow"] in error["message"]
        assert f"DELETE {path}" in error["message"]


def test_unknown_model(server: Running) -> None:
    client = server.openai()
    with pytest.raises(openai.NotFoundError) as info:
        client.completions.create(model="gpt-5", prompt="x")
    assert info.value.code == "model_not_found" and info.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=CHAT["messages"])  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"prompt": "\xff"}', "not valid UTF-8"),
        (b'\xff\xfe{"prompt": "x"}', "not valid"),
        (b'{"prompt": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"prompt": "\\ud800"}', "lone surrogate"),
        (b'{"prompt": "\\udc00 and more"}', "lone surrogate"),
        (b'{"prompt": "\\ud800\\ud800"}', "lone surrogate"),
        (b'{"prompt": NaN}', "not valid JSON"),
        (b'{"temperature": 1e999, "prompt": "x"}', ""),
        (b"[" * 100_000, ""),
        (b'{"prompt": ' + b"[" * 100_000, ""),
    ],
)
def test_bad_bodies(server: Running, body: bytes, words: str) -> None:
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        error = check(server.http().post(path, content=body), 400, "invalid_json")
        assert words in error["message"]


def test_valid_surrogate_pair(server: Running) -> None:
    response = server.http().post("/tokenize", content=b'{"prompt": "\\ud83d\\ude00"}')
    assert response.json()["tokens"][1:] == list("😀".encode())


def test_large_body(server: Running) -> None:
    body = b'{"prompt": "' + b"x" * 10_000_000 + b'"}'
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        check(server.http().post(path, content=body), 413, "body_too_large")
    check(server.http().post("/tokenize", content=iter([body])), 413)  # chunked: no length given
    with pytest.raises(openai.APIStatusError) as info:
        server.openai().completions.create(model="fake", prompt="x" * 10_000_000)
    assert info.value.status_code == 413


def test_large_body_is_refused_before_it_is_sent(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            b"content-length: 1000000000000\r\n\r\n"
        )
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_context(server: Running) -> None:
    with pytest.raises(openai.BadRequestError) as info:
        server.openai().completions.create(model="fake", prompt=[1] * 3000)
    assert info.value.code == "context_length_exceeded" and "3000" in info.value.message


def test_far_too_long_is_not_tokenised(server: Running) -> None:
    text = "x" * 1_000_000
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": text}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
    ]
    for path, body in bodies:
        error = check(server.http().post(path, json=body), 400, "context_length_exceeded")
        assert "1000000 characters" in error["message"]
    assert server.http().post("/tokenize", json={"prompt": text}).json()["count"] == 1_000_001


def test_one_bad_prompt_fails_the_call_and_aborts_the_rest(server: Running) -> None:
    body = {"prompt": ["SLOW 1", "x" * 3000, "SLOW 2"], "max_tokens": 500, "ignore_eos": True}
    response = server.http().post("/v1/completions", json=body)
    check(response, 400, "context_length_exceeded")
    assert server.engine
    wait_for(lambda: not server.engine or not server.engine.has_work)
    assert len(server.engine.aborted) == 2


def test_overload(start: Any) -> None:
    with start(FakeEngine(max_open=2)) as server:
        response = server.http().post("/v1/completions", json={"prompt": "x", "n": 3})
        check(response, 429, "overloaded")
        assert response.headers["retry-after"] == "1"
        with pytest.raises(openai.RateLimitError):
            server.openai().completions.create(model="fake", prompt="x", n=3)


def test_engine_error(server: Running) -> None:
    with pytest.raises(openai.InternalServerError, match="numbers went bad"):
        server.openai().completions.create(model="fake", prompt="ERROR")
    with pytest.raises(openai.APIError, match="numbers went bad"):
        list(server.openai().completions.create(model="fake", prompt="ERROR", stream=True))


def test_a_failed_stream_does_not_look_complete(server: Running) -> None:
    response = server.http().post("/v1/completions", json={"prompt": "ERROR", "stream": True})
    last = response.text.strip().split("\n\n")[-1].removeprefix("data: ")
    assert json.loads(last)["error"]["code"] == "engine_error"
    assert "[DONE]" not in response.text


class FailsBehindAToken(FakeEngine):
    """Its step brings a token and, behind it, that the answer has failed."""

    def step(self) -> list[Output]:
        (output,) = super().step()
        self.answers.clear()
        return [output, Output(request_id=output.request_id, finish_reason="error", error="why")]


def test_tokens_before_a_failure_reach_the_stream(start: Any) -> None:
    with start(FailsBehindAToken()) as server:
        response = server.http().post("/v1/completions", json={"prompt": "x", "stream": True})
        events = [
            json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n")[:-1]
        ]
        first, second = events
        assert first["choices"][0]["text"] == "a"
        assert second["error"]["message"] == "why"
        check(server.http().post("/v1/completions", json={"prompt": "x"}), 500, "engine_error")


def test_an_engine_error_ends_its_own_call_alone(server: Running) -> None:
    """Whoever shares the batch with a failed request sees nothing of it."""
    client = server.openai()
    slow = client.completions.create(model="fake", prompt="SLOW", max_tokens=30, stream=True)
    next(iter(slow))
    body = {"prompt": ["x", "ERROR"], "ignore_eos": True, "max_tokens": 1000}
    for stream in (False, True):
        response = server.http().post("/v1/completions", json={**body, "stream": stream})
        assert "numbers went bad" in response.text
        assert response.status_code == (200 if stream else 500)
    assert [chunk.choices[0].finish_reason for chunk in slow][-1] == "length"
    wait_for(lambda: not server.engine or not server.engine.has_work)
    assert server.http().get("/health").json()["restarts"] == 0


def test_our_own_bugs_say_little(start: Any) -> None:
    class Broken:
        eos_token_ids = ()

        def encode(self, *args: Any, **kwargs: Any) -> list[int]:
            raise ZeroDivisionError("secret detail")

    with start(FakeEngine(), tokenizer=Broken()) as server:
        error = check(server.http().post("/tokenize", json={"prompt": "x"}), 500)
        assert "secret" not in error["message"]


def test_every_path_but_health_ping_and_the_pages_files_asks_for_a_key(start: Any) -> None:
    with start(FakeEngine(), api_keys=["first key", "zweiter-schlüssel"]) as server:
        http = server.http()
        paths = [r.path.replace("{model:path}", "fake") for r in ROUTES] + ["/nothing", "/v1"]
        paths = [path for path in paths if not path.startswith(PAGE_FILES)]
        for path in paths:
            for method in ("GET", "POST", "OPTIONS"):
                response = http.request(method, path)
                if path in ("/health", "/ping"):
                    allowed = ("GET", "POST") if path == "/ping" else ("GET",)
                    assert response.status_code == (200 if method in allowed else 405)
                else:
                    check(response, 401, "invalid_api_key")
                    assert response.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer wrong", "Bearer", "Basic first key", "first key", b"Bearer \xff"):
            response = http.get("/v1/models", headers={"authorization": wrong})
            check(response, 401, "invalid_api_key")
        for key in ("first key", "zweiter-schlüssel"):
            headers = {"authorization": f"bearer {key}".encode()}
            assert http.get("/v1/models", headers=headers).status_code == 200
        with pytest.raises(openai.AuthenticationError):
            server.openai().models.list()
        assert server.openai(api_key="first key").models.list().data


def test_no_cross_origin(server: Running) -> None:
    response = server.http().get("/v1/models", headers={"origin": "https://example.org"})
    assert not [name for name in response.headers if name.startswith("access-control")]


ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


def test_allowed_origins(start: Any) -> None:
    """A preflight passes without a key; every answer, errors too, says who may read it."""
    page = "https://page.example"
    with start(FakeEngine(), api_keys=["key"], allowed_origins=[page]) as server:
        http, path = server.http(), "/v1/chat/completions"
        allowed = http.options(path, headers={"origin": page, **ASKS})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == page
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        other = http.options(path, headers={"origin": "https://other.example", **ASKS})
        assert "access-control-allow-origin" not in other.headers
        check(http.options(path, headers={"origin": page}), 401)  # no preflight
        response = http.post(path, json=CHAT, headers={"origin": page})
        check(response, 401)
        assert response.headers["access-control-allow-origin"] == page
        headers = {"origin": page, "authorization": "Bearer key"}
        response = http.post(path, json={**CHAT, "stream": True}, headers=headers)
        assert response.status_code == 200 and "[DONE]" in response.text
        assert response.headers["access-control-allow-origin"] == page
        response = http.get("/v1/models", headers={"authorization": "Bearer key"})
        assert response.status_code == 200, "programs send no origin"


def test_any_origin(start: Any) -> None:
    with start(FakeEngine(), allowed_origins=["*"]) as server:
        response = server.http().get("/v1/models", headers={"origin": "https://any.example"})
        assert response.headers["access-control-allow-origin"] == "*"


def wait_for(condition: Any, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
