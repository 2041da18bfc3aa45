"""An engine's process that dies is started again: what clients see meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import httpx
import pytest
from fake_server import FAKE_WORKER, Running

from pellucid.config import EngineConfig
from pellucid.request import Request
from pellucid.server import supervisor as supervising
from pellucid.server.link import EngineDown
from pellucid.server.process import EngineProcess
from pellucid.server.supervisor import Backoff, Supervisor

SERVED_AGAIN_S = 5.0
QUICK = Backoff(first_s=0.01, max_loads=3)
BROKEN = (sys.executable, "-c", "import sys; sys.exit('no memory left')")
SLEEPS = (sys.executable, "-c", "import sys; sys.stdin.read()")


def stream_to_the_end(
    url: str, prompt: Any, begun: threading.Semaphore, max_tokens: int = 1000
) -> list[str]:
    """The data of a stream's events."""
    body = {"prompt": prompt, "stream": True, "max_tokens": max_tokens, "ignore_eos": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as response:
        assert response.status_code == 200
        events = []
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
                if len(events) == 1:
                    begun.release()
    return events


def kill_under_streams(url: str, pid: int, prompt: Any, num: int = 8) -> tuple[list[Any], float]:
    """The events of each stream, and the seconds from the kill to the next request's answer."""
    begun = threading.Semaphore(0)
    seen: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(stream_to_the_end(url, prompt, begun)))
        for _ in range(num)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=30)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    body = {"prompt": prompt, "max_tokens": 1}
    deadline = killed + 30
    while True:  # a call that reaches the dying engine fails with the others
        response = httpx.post(f"{url}/v1/completions", json=body, timeout=30)
        if response.status_code == 200 or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert response.status_code == 200, response.text
    seconds = time.monotonic() - killed
    for thread in threads:
        thread.join(10)
    return seen, seconds


def check_killed_streams(seen: list[list[str]], num: int = 8) -> None:
    """Each stream ended with one error that names the reason, and does not look complete."""
    assert len(seen) == num
    for events in seen:
        *tokens, last = [json.loads(event) for event in events]  # so there is no [DONE]
        assert tokens and all("error" not in event for event in tokens)
        assert last["error"]["code"] == "engine_down" and last["error"]["type"] == "server_error"
        assert "was killed by SIGKILL" in last["error"]["message"]


def test_a_kill_under_eight_streams(start: Callable[..., Any]) -> None:
    with start() as server:
        seen, seconds = kill_under_streams(server.url, server.pid, "SLOW")
        check_killed_streams(seen)
        assert seconds < SERVED_AGAIN_S
        health = server.http().get("/health").json()
        assert health["status"] == "ok" and health["restarts"] == 1
        assert health["num_running"] == 0


def test_a_kill_without_work(start: Callable[..., Any]) -> None:
    """Nobody asked at the time: the next call finds an engine, whatever the state it meets."""
    with start() as server:
        for restarts in (1, 2):
            os.kill(server.pid, signal.SIGKILL)
            wait_for(partial(up_again, server, restarts))
            response = server.http().post("/v1/completions", json={"prompt": "x"})
            assert response.status_code == 200


def up_again(server: Running, restarts: int) -> bool:
    health = server.http().get("/health").json()
    return bool(health["status"] == "ok" and health["restarts"] == restarts)


def test_while_it_restarts(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Health says so; a call waits as long as its patience lasts, then is told when to come."""
    monkeypatch.setattr(supervising, "PATIENCE_S", 0.2)
    with start() as server:
        engine, http = server.served.engine, server.http()
        engine._spawn = lambda: EngineProcess.spawn(SLEEPS)  # never ready
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda: engine.state == "restarting")
        response = http.get("/health")
        assert response.status_code == 503 and response.json()["status"] == "restarting"
        assert "was killed by SIGKILL" in response.json()["reason"]
        for stream in (False, True):
            began = time.monotonic()
            response = http.post("/v1/completions", json={"prompt": "x", "stream": stream})
            assert time.monotonic() - began >= 0.2
            error = response.json()["error"]
            assert response.status_code == 503 and error["code"] == "engine_restarting"
            assert int(response.headers["retry-after"]) >= 1
            assert "x-should-retry" not in response.headers, "clients may try again"
        assert http.post("/explorer/v1/measure", json={}).status_code == 503
        assert http.get("/v1/models").status_code == 200


def supervised(
    commands: list[tuple[str, ...]], act: Callable[[Supervisor], Coroutine[Any, Any, None]]
) -> Supervisor:
    """`act` with a supervisor whose processes are `commands`, the last one again and again."""
    left = list(commands)

    async def main() -> Supervisor:
        async def spawn() -> EngineProcess:
            return await EngineProcess.spawn(left.pop(0) if len(left) > 1 else left[0])

        engine = Supervisor(spawn, EngineConfig(), QUICK)
        await engine.spawn()
        try:
            await engine.load()
            await act(engine)
        finally:
            await engine.stop()
        return engine

    return asyncio.run(main())


def kill(engine: Supervisor) -> None:
    os.kill(engine._host.pid, signal.SIGKILL)  # type: ignore[union-attr]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_deaths_while_loading_are_tried_again() -> None:
    async def act(engine: Supervisor) -> None:
        kill(engine)
        await until(lambda: engine.num_restarts == 3 and engine.is_up)
        assert "no memory left" in engine.reason
        submission = (await engine.ready()).submit([Request(id="a", prompt_token_ids=[1])])
        with submission:
            await submission.accepted()

    supervised([FAKE_WORKER, BROKEN, BROKEN, FAKE_WORKER], act)


def test_it_gives_up_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    async def act(engine: Supervisor) -> None:
        kill(engine)
        await until(lambda: engine.state == "failed")
        assert engine.num_restarts == QUICK.max_loads
        with pytest.raises(EngineDown, match=r"no memory left; it was started 3 times") as down:
            await engine.ready()
        assert down.value.retry_after_s is None

    supervised([FAKE_WORKER, BROKEN], act)
    assert "restart the server" in capsys.readouterr().err


def test_a_model_that_fits_no_more_is_a_reason_too() -> None:
    """A configuration that is refused at a restart is tried again: memory may come free."""

    async def act(engine: Supervisor) -> None:
        engine.config = EngineConfig(model="broken")
        kill(engine)
        await until(lambda: engine.state == "failed")
        assert "broken.gguf is truncated" in engine.reason

    supervised([FAKE_WORKER], act)


def test_stopping_while_it_restarts() -> None:
    async def act(engine: Supervisor) -> None:
        kill(engine)
        await until(lambda: engine.num_restarts == 1)
        engine.fail("the server is shutting down")
        with pytest.raises(EngineDown, match="shutting down"):
            await engine.ready()

    began = time.monotonic()
    assert supervised([FAKE_WORKER, SLEEPS], act).state == "stopping"
    assert time.monotonic() - began < 5


def test_the_first_load_is_not_tried_again() -> None:
    async def act(engine: Supervisor) -> None:
        raise AssertionError("it was never ready")

    with pytest.raises(EngineDown, match="no memory left"):
        supervised([BROKEN], act)


def test_pauses_double_up_to_a_limit() -> None:
    backoff = Backoff()
    assert [backoff.delay(n) for n in range(1, 9)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.delay(10_000) == 30


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
