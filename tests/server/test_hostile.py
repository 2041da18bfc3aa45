"""What careless and hostile clients send: each gets its answer, and nobody else notices."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, FakeTokenizer
from fake_server import Running
from real_server import engine_of
from test_life import first_line, program, wait_for

from pellucid.explore import runfile
from pellucid.server import connections, modelling
from pellucid.server.http import is_local

RECORDED = Path(__file__).parents[2] / "bench" / "results" / "run-smollm2-cpu.json"
HUGE = 2**64


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": HUGE},
        {"top_k": 10**30},
        {"stop_token_ids": [HUGE]},
        {"logit_bias": {str(10**30): 1}},
        {"min_tokens": HUGE, "max_tokens": 2 * HUGE},
        {"seed": HUGE},
        {"n": HUGE},
        {"prompt": [HUGE]},
        {"truncate_prompt_tokens": HUGE},
        {"temperature": 1e300},
    ],
)
def test_numbers_beyond_64_bits(server: Running, fields: dict[str, Any]) -> None:
    """A limit that is far too high limits nothing; any other such number is refused."""
    body = {"prompt": "x", "max_tokens": 3, **fields}
    response = server.http().post("/v1/completions", json=body)
    assert response.status_code in (200, 400), response.text
    assert server.served.engine.link.submissions == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"blocks": HUGE},
        {"blocks": 10**6},
        {"blocks": 0},
        {"lengths": [HUGE]},
        {"lengths": [64] * 65},
        {"batches": [-1]},
        {"max_seconds": 0},
        {"max_seconds": 1.7e308},
    ],
)
def test_a_measurement_has_an_end(server: Running, fields: dict[str, Any]) -> None:
    response = server.http().post("/explorer/v1/measure", json=fields)
    assert response.status_code == 400
    (name,) = fields
    assert response.json()["error"]["param"].startswith(name)


def test_deep_nesting(server: Running) -> None:
    client = server.http()
    deep = "[" * 600 + '"<eos>"' + "]" * 600
    chat = '{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"a": %s}}'
    response = client.post("/v1/chat/completions", content=chat % deep)
    assert response.status_code == 400 and "nested" in response.json()["error"]["message"]
    run = json.dumps({"run": runfile.read(RECORDED)})
    nested = f'{run[:-2]}, "x": {"[" * 900}{"]" * 900}}}}}'
    for path in ("answers", "calibrate", "counts"):
        assert client.post(f"/explorer/v1/{path}", content=nested).status_code == 400


def test_names_that_are_no_files(server: Running) -> None:
    for name in ("a" * 300, "%2e%2e", "%00", "a%2fb"):
        response = server.http().get(f"/assets/{name}")
        assert response.status_code == 404, name


def test_a_run_file_that_would_take_for_ever(server: Running) -> None:
    recorded = runfile.read(RECORDED)
    content = {key: value for key, value in recorded.items() if key not in ("id", "schema")}
    spec = {**content["model"]["spec"], "num_layers": 10**8}
    deep = runfile.seal({**content, "model": {**content["model"], "spec": spec}})
    many = runfile.seal({**content, "cells": content["cells"] * modelling.MAX_CELLS})
    for run, what in ((deep, "100,000,000 layers"), (many, "896 cells")):
        for path in ("answers", "calibrate", "counts"):
            response = server.http().post(f"/explorer/v1/{path}", json={"run": run})
            assert response.status_code == 400, response.text
            assert what in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": ["x" * 100] * 1000, "max_tokens": 1}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * 1000}),
        ("/tokenize", {"prompt": "x" * 100_000}),
    ],
)
def test_long_bodies_do_not_hold_up_the_others(start: Any, path: str, body: Any) -> None:
    """They are worked on in another thread than the one that hands out tokens."""
    threads: set[str] = set()

    class Watched(FakeTokenizer):
        def encode(self, *args: Any, **options: Any) -> list[int]:
            threads.add(threading.current_thread().name)
            return super().encode(*args, **options)

        def encode_marked(self, *args: Any, **options: Any) -> list[int]:
            threads.add(threading.current_thread().name)
            return super().encode_marked(*args, **options)

    with start(FakeEngine(max_open=2000), tokenizer=Watched()) as server:
        server.http().post(path, json=body)
        assert threads and all(name.startswith("asyncio_") for name in threads)
        threads.clear()
        server.http().post("/tokenize", json={"prompt": "short"})
        assert not any(name.startswith("asyncio_") for name in threads)


PAGE = "https://evil.example"


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, None, 200),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", 200),
        ("http://mybox:8000", "mybox:8000", 200),
        ("http://nas.local", "nas.local", 200),
        ("http://[::1]:8000", "[::1]:8000", 200),
        ("http://localhost:3000", "localhost:8000", 403),
        (PAGE, "127.0.0.1:8000", 403),
        (PAGE, "evil.example", 403),
        ("null", "127.0.0.1:8000", 403),
    ],
)
def test_pages_of_others_can_do_nothing(
    server: Running, origin: str | None, host: str | None, status: int
) -> None:
    headers = {"content-type": "text/plain", "origin": origin, "host": host}
    sent = {name: value for name, value in headers.items() if value is not None}
    for path, body in (
        ("/v1/completions", '{"prompt": "x"}'),
        ("/explorer/v1/measure", '{"lengths": [64], "blocks": 1}'),
    ):
        response = server.http().post(path, content=body, headers=sent)
        assert response.status_code == status, response.text
        if status == 403:
            error = response.json()["error"]
            assert error["code"] == "origin_not_allowed" and "--allowed-origins" in error["message"]


def test_who_has_a_key_may_come_from_anywhere(start: Any) -> None:
    with start(FakeEngine(), api_keys=["key"]) as server:
        headers = {"origin": PAGE, "authorization": "Bearer key"}
        response = server.http().post("/v1/completions", json={"prompt": "x"}, headers=headers)
        assert response.status_code == 200


def test_local_names() -> None:
    for host in ("localhost", "127.0.0.1", "10.1.2.3:80", "[fe80::1]:80", "box", "a.lan:8000"):
        assert is_local(host), host
    for host in ("example.org", "localhost.example.org:80", "127.0.0.1.example.org", "a.localx"):
        assert not is_local(host), host


def test_a_connection_on_which_nothing_comes(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST_REQUEST_S", 0.2)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as idle:
        assert idle.recv(1) == b"", "closed"
    asking = http.client.HTTPConnection(host, int(port), timeout=5)
    for _ in range(2):
        asking.request("GET", "/version")
        assert b"version" in asking.getresponse().read(), "kept alive after a request"
        time.sleep(0.3)
    asking.close()


def test_the_log_stays_short_when_descriptors_run_out(caplog: pytest.LogCaptureFixture) -> None:
    handle, loop = connections.Failures(), asyncio.new_event_loop()
    try:
        for _ in range(1000):
            handle(loop, {"message": "socket.accept() out of system resource", "socket": None})
        handle(loop, {"message": "something else"})
    finally:
        loop.close()
    assert [record.getMessage() for record in caplog.records] == [
        "too many open connections: no file descriptor is left",
        "something else",
    ]


def test_a_signal_ends_it_even_if_the_engine_reads_nothing() -> None:
    """What waits to be written to a stopped engine must not keep the server alive."""
    with program() as (process, port):
        first_line(process)
        child = engine_of(process.pid)
        os.kill(child.pid, signal.SIGSTOP)
        body = {"prompt": [[7] * 2000] * 500, "max_tokens": 1}  # a megabyte for the engine
        url = f"http://127.0.0.1:{port}/v1/completions"

        def post() -> None:
            with pytest.raises(httpx.HTTPError):
                httpx.post(url, json=body, timeout=10).raise_for_status()

        thread = threading.Thread(target=post)
        thread.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(9) == 0
        thread.join()
        wait_for(lambda: not child.is_running())
