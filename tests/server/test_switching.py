"""Switches that are changed on a running server: what clients are told, and what they keep."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from fake_server import Running
from real_server import serving

from pellucid.features import FEATURES

ROUTE = "/explorer/v1/switches"


def test_a_change_is_told_and_kept(server: Running) -> None:
    http = server.http()
    answer = http.post(ROUTE, json={"kv_cache": "off"}).json()
    rows = {row["key"]: row for row in answer["switches"]}
    assert rows["kv_cache"]["current"] == "off"
    assert rows["kv_cache"]["why"] == answer["engine"]["why"]["kv_cache"] == "asked for"
    assert answer["seconds"] >= 0
    assert http.get("/explorer/v1/capabilities").json()["switches"] == answer["switches"]
    assert server.served.engine.config.kv_cache == "off", "a restarted engine begins with it"


def test_values_say_whether_they_can_be_had(server: Running) -> None:
    told = server.http().get("/explorer/v1/capabilities").json()
    rows = {row["key"]: row for row in told["switches"]}
    assert set(rows) == {feature.key for feature in FEATURES}
    graphs = {entry["value"]: entry["why_not"] for entry in rows["graphs"]["values"]}
    assert graphs["off"] == "" and "need an NVIDIA GPU" in graphs["on"]
    chunks = [entry["value"] for entry in rows["chunked_prefill"]["values"]]
    assert rows["chunked_prefill"]["current"] in chunks


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"graphs": "on"}, "graphs", "need an NVIDIA GPU"),
        ({"colour": "red"}, "colour", "there is no switch 'colour'"),
        ({"num_blocks": "3"}, "num_blocks", "there is no switch 'num_blocks'"),
        ({"kv_cache": "maybe"}, "kv_cache", "must be one of on, off"),
        ({"kv_cache": True}, "kv_cache", 'must be a text such as "off"'),
        ({"chunked_prefill": "few"}, "chunked_prefill", "a whole number"),
        ({"chunked_prefill": -5}, "chunked_prefill", "at least -1"),
        ({}, None, "name a switch and its value"),
    ],
)
def test_what_cannot_be_had_is_a_400_and_changes_nothing(
    server: Running, body: dict[str, Any], param: str | None, words: str
) -> None:
    http = server.http()
    before = http.get("/explorer/v1/capabilities").json()
    response = http.post(ROUTE, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert words in error["message"] and error["param"] == param
    assert http.get("/explorer/v1/capabilities").json() == before


def test_while_measuring_it_is_refused(start: Any) -> None:
    with start(FakeEngine()) as server:
        body = {"lengths": [64, 256, 1024], "max_seconds": 0.5}  # the fake goes on for five seconds
        with server.http().stream("POST", "/explorer/v1/measure", json=body) as response:
            lines = response.iter_lines()  # kept: the stream ends with its reader
            next(lines)
            refused = httpx.post(f"{server.url}{ROUTE}", json={"kv_cache": "off"})
            assert refused.status_code == 409
            assert "a measurement is running" in refused.json()["error"]["message"]


def test_an_operator_can_fix_them(start: Any) -> None:
    with start(FakeEngine(), fixed_switches=True) as server:
        http = server.http()
        before = http.get("/explorer/v1/capabilities").json()
        response = http.post(ROUTE, json={"kv_cache": "off"})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "switches_fixed"
        assert http.get("/explorer/v1/capabilities").json() == before


@pytest.fixture(scope="module")
def real(tiny_folder: Path) -> Iterator[Any]:
    """The real engine behind the real server, of a size that costs nothing."""
    options = ("--load-format", "dummy", "--dtype", "float32", "--memory", "0.05")
    with serving("--model", str(tiny_folder), *options, "--max-seqs", "6") as program:
        yield program


def test_eight_clients_stream_over_two_hundred_changes(real: Any) -> None:
    """No answer is lost or mixed up, and each is the one it is without any change."""
    bodies = [
        {"prompt": [number + 3, 9, 44, 7] * (number + 1), "seed": number, "ignore_eos": True,
         "temperature": 0.7 * (number % 2), "max_tokens": 40}
        for number in range(8)
    ]  # fmt: skip
    expected = [ids(real, body) for body in bodies]
    rows = real.http.get("/explorer/v1/capabilities").json()["switches"]
    flips = [
        (row["key"], entry["value"])
        for row in rows
        for entry in row["values"]
        if not entry["why_not"] and row["key"] != "sampler"
    ]
    found: list[list[list[int]]] = [[] for _ in bodies]
    done = threading.Event()

    def ask(number: int) -> None:
        while not done.is_set():
            found[number].append(ids(real, bodies[number]))

    threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    begin = time.monotonic()
    for count in range(200):
        key, value = flips[count * 7 % len(flips)]
        answer = real.http.post(ROUTE, json={key: value}, timeout=30)
        assert answer.status_code in (200, 400), answer.text
    seconds = time.monotonic() - begin
    done.set()
    for thread in threads:
        thread.join(60)
    print(f"{1e3 * seconds / 200:.0f} ms a change")
    assert all(found)
    for number, answers in enumerate(found):
        assert all(answer == expected[number] for answer in answers)
    assert real.health()["restarts"] == 0


def ids(program: Any, body: dict[str, Any]) -> list[int]:
    """A streamed answer's tokens."""
    found: list[int] = []
    with httpx.stream(
        "POST", f"{program.url}/v1/completions", json={**body, "stream": True}, timeout=60
    ) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                assert "error" not in event, event
                found += event["choices"][0].get("token_ids", [])  # none in a last chunk
    return found
