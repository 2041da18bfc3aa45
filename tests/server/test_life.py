"""Clients that leave, engines that die, and a server that is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from fake_engine import FakeEngine
from fake_server import Running
from real_server import engine_of
from starlette.requests import ClientDisconnect

from pellucid.server import http as server_http
from pellucid.server.launch import bind
from pellucid.server.serve import start_line

HERE = Path(__file__).parent


def wait_for(condition: Any, seconds: float = 5) -> float:
    """Seconds until `condition`."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + seconds, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - begin


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_leaving_a_stream_aborts(server: Running, path: str) -> None:
    body: dict[str, Any] = {"stream": True, "n": 2}
    body |= (
        {"messages": [{"role": "user", "content": "SLOW"}]}
        if "chat" in path
        else {"prompt": "SLOW"}
    )
    with server.http().stream("POST", path, json=body) as response:
        next(response.iter_lines())
    assert server.engine
    wait_for(lambda: server.engine and not server.engine.has_work)
    assert len(server.engine.aborted) == 1
    assert server.http().get("/health").json()["num_blocks_used"] == 0


@pytest.mark.parametrize("prompt", ["SLOW", ["SLOW", "SLOW 2"]])
def test_a_timeout_without_stream_aborts(server: Running, prompt: Any) -> None:
    body = {"prompt": prompt, "max_tokens": 1000, "ignore_eos": True}
    with pytest.raises(httpx.ReadTimeout):
        server.http().post("/v1/completions", json=body, timeout=0.2)
    wait_for(lambda: server.engine and not server.engine.has_work)
    assert server.engine and len(server.engine.aborted) == (1 if prompt == "SLOW" else 2)


def test_a_finished_request_is_not_aborted(server: Running) -> None:
    client = server.openai()
    client.completions.create(model="fake", prompt="x")
    list(client.completions.create(model="fake", prompt="x", stream=True))
    server.http().get("/health")
    assert server.engine and server.engine.aborted == []
    assert server.served.engine.link.submissions == {}


def test_keep_alive_comments(start: Any) -> None:
    with start(FakeEngine(step_s=0.3), keep_alive_s=0.1) as server:
        response = server.http().post(
            "/v1/completions", json={"prompt": "x", "max_tokens": 2, "stream": True}
        )
        assert response.text.count(": keep-alive\n\n") >= 2
        text = [
            c.choices[0].text
            for c in server.openai().completions.create(
                model="fake", prompt="x", max_tokens=2, stream=True
            )
        ]
        assert "".join(text) == "ab", "clients skip comments"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("CRASH", "RuntimeError: the fake engine crashed as it was told"),
        ("EXIT", "exited with 7; its last words: fake: Segmentation fault"),
        ("KILL", "was killed by SIGKILL"),
    ],
)
def test_a_dead_engine_fails_all_at_once(start: Any, word: str, reason: str) -> None:
    with start() as server:
        results: list[Any] = []

        def call(stream: bool) -> None:
            try:
                answer = server.openai().completions.create(
                    model="fake",
                    prompt="SLOW",
                    max_tokens=1500,
                    stream=stream,
                    extra_body={"ignore_eos": True},
                )
                results.append(list(answer) if stream else answer)
            except openai.APIError as error:
                results.append(error)

        threads = [threading.Thread(target=call, args=(s,)) for s in (True, False)]
        for thread in threads:
            thread.start()
        http = server.http()
        wait_for(lambda: http.get("/health").json()["num_running"] == 2)
        if word == "KILL":
            os.kill(server.pid, signal.SIGKILL)
        else:
            threading.Thread(
                target=lambda: http.post("/v1/completions", json={"prompt": word})
            ).start()
        wait_for(lambda: len(results) == 2, 3)
        for result in results:
            assert isinstance(result, openai.APIError) and reason in str(result)
        answer = http.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}).json()
        assert answer["choices"][0]["text"] == "a", "it waited for the next engine"
        health = http.get("/health").json()
        assert (health["status"], health["restarts"]) == ("ok", 1)
        assert reason in health["reason"]
        for thread in threads:
            thread.join(5)


def test_a_busy_engine_is_healthy(start: Any) -> None:
    with start(FakeEngine(step_s=1.5)) as server:
        body = {"prompt": "x", "max_tokens": 1}
        thread = threading.Thread(target=lambda: server.http().post("/v1/completions", json=body))
        thread.start()
        wait_for(lambda: server.engine.has_work)
        health = server.http().get("/health").json()
        assert health["status"] == "ok" and health["fresh"] is False
        thread.join()
        assert server.http().get("/health").json()["fresh"] is True


def test_idle_engine_sleeps(start: Any) -> None:
    """Also after work: one second at rest costs next to no CPU time, in either process."""
    with start() as server:
        server.openai().completions.create(model="fake", prompt="x")
        worker = psutil.Process(server.pid)
        before = sum(worker.cpu_times()[:2])
        time.sleep(1)
        assert sum(worker.cpu_times()[:2]) - before <= 0.02


def test_worker_leaves_when_its_parent_does(start: Any) -> None:
    with start() as server:
        pid = server.pid
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_the_engine_starts_before_the_server_imports() -> None:
    """What `pellucid serve` has imported when it starts the engine's process, which takes seconds:
    no event loop, no web server, no numpy."""
    code = "import sys, pellucid.cli.serve as verb; verb.launch; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "pellucid.server.launch" in modules.split()
    assert not {"asyncio", "uvicorn", "starlette", "numpy", "torch"} & set(modules.split())


def test_port_in_use() -> None:
    from pellucid.errors import InputError

    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is in use"):
            bind("127.0.0.1", port)
    bind("127.0.0.1", port).close()
    with pytest.raises(InputError, match="unknown host"):
        bind("no.such.host.invalid", 0)


@contextlib.contextmanager
def program(model: str = "fake", defaults: str = "model") -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "fake_serve.py"), str(port), model, defaults],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def first_line(process: Any) -> str:
    line = ""
    while "serves" not in line and "error" not in line:
        line = process.stderr.readline()
        assert line, "it ended without a word"
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_on_signal(number: signal.Signals) -> None:
    """Even with a stream open: it ends with an error, not in silence."""
    with program() as (process, port):
        url = f"http://127.0.0.1:{port}"
        said = f"pellucid serves fake at {url}/v1, its page at {url} (ready in "
        assert said in first_line(process)
        child = engine_of(process.pid)
        body = {"prompt": "SLOW", "stream": True, "max_tokens": 1000, "ignore_eos": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=10) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(number)
            assert "shutting down" in list(lines)[-2]
        begin = time.monotonic()
        assert process.wait(5) == 0
        assert time.monotonic() - begin < 3
        assert not child.is_running()


@pytest.mark.parametrize("times", [1, 2])
def test_stop_while_the_model_is_loaded(times: int) -> None:
    """The second signal does not wait for the engine's process, which ends by itself."""
    with program("large") as (process, _):
        assert process.stderr.readline() == "loading\n"
        child = engine_of(process.pid)
        process.send_signal(signal.SIGINT)
        if times == 2:
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert process.wait(10) == 130
        assert time.monotonic() - begin < (8 if times == 1 else 1.5)
        wait_for(lambda: not child.is_running() or child.status() == "zombie", 5)


@pytest.mark.parametrize(("whose", "want"), [("model", {"temperature": 0.3}), ("openai", {})])
def test_whose_sampling_defaults(whose: str, want: dict[str, float]) -> None:
    with program(defaults=whose) as (process, port):
        first_line(process)
        models = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()["data"]
        assert [card["sampling_defaults"] for card in models] == [want]


def test_an_offered_upgrade_is_no_news() -> None:
    """HTTP/2 is offered by clients such as curl; answering in HTTP/1.1 takes no log line."""
    with program() as (process, port):
        first_line(process)
        headers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": ""}
        url = f"http://127.0.0.1:{port}/health"
        assert httpx.get(url, headers=headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read() == ""


def test_no_orphan_when_the_server_is_killed() -> None:
    with program() as (process, _):
        first_line(process)
        child = engine_of(process.pid)
        process.kill()
        wait_for(lambda: not child.is_running() or child.status() == "zombie", 4)


def test_no_orphan_when_the_engine_is_stuck() -> None:
    with program() as (process, port):
        first_line(process)
        child = engine_of(process.pid)
        with contextlib.suppress(httpx.TimeoutException):
            httpx.post(
                f"http://127.0.0.1:{port}/v1/completions", json={"prompt": "STUCK"}, timeout=0.3
            )
        process.kill()
        wait_for(lambda: not child.is_running() or child.status() == "zombie", 5)


def test_bad_model_and_port_in_use_exit_with_2() -> None:
    with program("broken") as (process, _):
        assert first_line(process) == "error: broken.gguf is truncated; fetch it again\n"
        assert process.wait(5) == 2
    with program() as (process, port):
        first_line(process)
        again = subprocess.run(
            [sys.executable, str(HERE / "fake_serve.py"), str(port), "fake", "model"],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert again.returncode == 2
        (line,) = again.stderr.splitlines()
        assert f"port {port}" in line and "--port" in line


def test_until_disconnect_cancels_the_work() -> None:
    async def main() -> None:
        cancelled = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                cancelled.set()

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        with pytest.raises(ClientDisconnect):
            await server_http.until_disconnect(receive, work())
        assert cancelled.is_set()

    asyncio.run(main())


def test_what_the_start_took_is_told_in_parts() -> None:
    line = start_line(4.0, {"torch": 2.5, "engine": 0.049, "weights": 1.0})
    assert line == "start  torch 2.50 s, weights 1.00 s, other 0.50 s"
