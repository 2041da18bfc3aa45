"""`POST /explorer/v1/attention`: the route with a fake engine, and the whole with a tiny one."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import BOS, FakeEngine
from fake_server import Running
from real_server import Program, serving

ROUTE = "/explorer/v1/attention"


def test_text_ids_and_chats_become_tokens(server: Running) -> None:
    http = server.http()
    seen = http.post(ROUTE, json={"text": "ab", "head": 1}).json()
    assert seen["tokens"] == [
        {"id": BOS, "text": "<bos>"}, {"id": 97, "text": "a"}, {"id": 98, "text": "b"},
    ]  # fmt: skip
    assert seen["wish"]["head"] == 1 and not seen["wish"]["thumbnails"]
    ids = http.post(ROUTE, json={"prompt_token_ids": [99], "tiles": True, "block_m": 4}).json()
    assert ids["wish"] == {
        **seen["wish"], "token_ids": [99], "head": 0, "tiles": True, "block_m": 4,
    }  # fmt: skip
    chat = {"messages": [{"role": "user", "content": "x"}]}
    said = http.post(ROUTE, json=chat).json()
    assert "".join(token["text"] for token in said["tokens"]) == "<bos>[user]x\n[assistant]"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "text", "send one of text, prompt_token_ids, messages; this has none of them"),
        ({"text": "a", "prompt_token_ids": [1]}, "text", "this has text and prompt_token_ids"),
        ({"text": 3}, "text", "expected `str`"),
        ({"text": "a", "colour": 1}, "colour", "unknown field 'colour'"),
        ({"text": "a", "layer": "x"}, "layer", "expected `int`"),
        ({"prompt_token_ids": [10**6]}, "prompt_token_ids", "not in the vocabulary"),
        ({"text": "a" * 10**6}, "text", "is too long"),
        ({"messages": []}, "messages", "messages"),
        ({"text": "a", "model": "b"}, "model", "no model 'b'"),
        ({"text": "REFUSE"}, "text", "the fake refuses"),
    ],
)
def test_what_does_not_fit_is_one_error(
    server: Running, body: dict[str, Any], param: str, words: str
) -> None:
    response = server.http().post(ROUTE, json=body)
    assert response.status_code in (400, 404)
    error = response.json()["error"]
    assert error["param"] == param and words in error["message"]


def test_a_look_that_fails_harms_nobody_else(server: Running) -> None:
    http = server.http()
    failed = http.post(ROUTE, json={"text": "BREAK"})
    assert failed.status_code == 500 and "the fake broke" in failed.json()["error"]["message"]
    assert http.post("/v1/completions", json={"prompt": "x"}).status_code == 200


def test_while_measuring_it_is_refused(start: Callable[..., Any]) -> None:
    with start(FakeEngine()) as server:
        body = {"lengths": [64, 256, 1024], "max_seconds": 0.5}  # the fake goes on for five seconds
        with server.http().stream("POST", "/explorer/v1/measure", json=body) as response:
            lines = response.iter_lines()  # kept: the stream ends with its reader
            next(lines)
            refused = httpx.post(f"{server.url}{ROUTE}", json={"text": "a"})
            assert refused.status_code == 409
            assert "a measurement is running" in refused.json()["error"]["message"]


@pytest.fixture(scope="module")
def real(tiny_folder: Path) -> Iterator[Program]:
    options = ("--load-format", "dummy", "--dtype", "float32", "--memory", "0.05")
    with serving("--model", str(tiny_folder), *options) as program:
        yield program


def test_the_whole_way(real: Program) -> None:
    body = {"prompt_token_ids": [5, 9, 44, 7, 3], "layer": 1, "head": 2}
    response = real.http.post(ROUTE, json={**body, "thumbnails": True, "tiles": True})
    assert response.status_code == 200, response.text
    seen = response.json()
    assert [token["id"] for token in seen["tokens"]] == body["prompt_token_ids"]
    assert [len(row) for row in seen["matrix"]["max"]] == [1, 2, 3, 4, 5]
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in seen["matrix"]["max"])
    assert len(base64.b64decode(seen["thumbnails"]["heads"][1][3])) == 25
    assert seen["difference"]["layer"] < 1e-5 and seen["flash"]["error_to_backend"] < 1e-4
    long = real.http.post(ROUTE, json={"prompt_token_ids": [1] * 129})
    assert long.status_code == 400
    assert long.json()["error"]["code"] == "context_length_exceeded"


def test_answers_of_others_stay_the_same(real: Program) -> None:
    """Four clients ask for tokens while a fifth looks on: each answer is the one without it."""
    bodies = [
        {"prompt": [3 + n, 8, 50, 21], "seed": n, "max_tokens": 60, "ignore_eos": True,
         "return_token_ids": True}
        for n in range(4)
    ]  # fmt: skip
    expected = [ids(real, body) for body in bodies]
    found: list[list[int]] = [[] for _ in bodies]

    def ask(n: int) -> None:
        found[n] = ids(real, bodies[n])

    threads = [threading.Thread(target=ask, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    looks = 0
    while any(thread.is_alive() for thread in threads):
        wish = {"prompt_token_ids": list(range(90)), "thumbnails": True, "tiles": True}
        assert real.http.post(ROUTE, json=wish).status_code == 200
        looks += 1
    assert found == expected and looks


def ids(program: Program, body: dict[str, Any]) -> list[int]:
    answer = httpx.post(f"{program.url}/v1/completions", json=body, timeout=60).json()
    tokens: list[int] = answer["choices"][0]["token_ids"]
    return tokens
