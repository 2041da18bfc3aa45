"""Events of the engine over HTTP: whole, resumable, bounded, and free when nobody watches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest
from fake_engine import FakeEngine
from fake_server import Running
from traced_engine import TracedEngine

from pellucid.events import PoolState, StepEvent
from pellucid.owners import Owners
from pellucid.server.protocol import Traced, Watched
from pellucid.server.watchers import Watchers
from pellucid.trace import NullTrace

ROUTE = "/explorer/v1/events"
NEWS = msgspec.json.Decoder(PoolState | StepEvent)


class Reader:
    """A client's view of the stream: news with their ids, and the owners that they come to."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self._lines = response.iter_lines()
        self.id = ""
        self.owners: Owners | None = None

    def next(self) -> dict[str, Any]:
        """The next piece of news, checked against all before it."""
        for line in self._lines:
            if line.startswith("id: "):
                self.id = line.removeprefix("id: ")
            if line.startswith("data: "):
                text = line.removeprefix("data: ")
                news: dict[str, Any] = json.loads(text)
                if news["type"] == "snapshot":
                    self.owners = Owners(NEWS.decode(text))
                if news["type"] == "step":
                    assert self.owners
                    self.owners.apply(NEWS.decode(text))
                return news
        raise EOFError

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            news = self.next()
            if wanted(news):
                return news

    def leaves(self, why: str) -> dict[str, Any]:
        """Go on to the event in which somebody leaves for this reason."""
        return self.until(
            lambda news: any(
                each["type"] == "left" and each["why"] == why for each in news.get("happened", [])
            )
        )


@contextmanager
def watching(server: Running, last_id: str = "") -> Iterator[Reader]:
    headers = {"last-event-id": last_id} if last_id else {}
    with httpx.stream("GET", f"{server.url}{ROUTE}", headers=headers, timeout=20) as response:
        yield Reader(response)


def complete(server: Running, num_tokens: int = 20, **body: Any) -> None:
    body = {"prompt": [9] * num_tokens, "max_tokens": 8, "ignore_eos": True, **body}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=20)
    assert answer.status_code == 200, answer.text


@pytest.fixture
def traced(start: Any) -> Iterator[Running]:
    with start(TracedEngine()) as server:
        yield server


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_state_comes_first_then_every_change(traced: Running) -> None:
    with watching(traced) as reader:
        first = reader.next()
        assert first["type"] == "snapshot" and first["num_blocks"] == 64
        assert first["sequences"] == []
        complete(traced, n=2)
        event = reader.next()
        kinds = [each["type"] for each in event["happened"]]
        assert kinds == ["queued", "queued", "admitted", "planned", "landed"]
        reader.leaves("finished")
        reader.leaves("finished")
        assert reader.owners and not reader.owners.refs


def test_several_watch_at_once_and_one_that_comes_late(traced: Running) -> None:
    assert isinstance(traced.engine, TracedEngine)
    traced.engine.step_s = 0.01
    with watching(traced) as one, watching(traced) as other:
        one.next(), other.next()
        asking = threading.Thread(target=complete, args=(traced,), kwargs={"max_tokens": 60})
        asking.start()
        one.next()
        with watching(traced) as late:
            state = late.next()
            assert [s["state"] for s in state["sequences"]] == ["running"]
            for reader in (one, other, late):
                reader.leaves("finished")
        asking.join()
        assert one.id == other.id == late.id
    assert traced.engine.num_traces == 1, "the engine is asked once"


def test_nobody_watches_and_nothing_is_written(traced: Running) -> None:
    engine = traced.engine
    assert isinstance(engine, TracedEngine) and isinstance(engine.trace, NullTrace)
    traced.served.watchers._linger_s = 0.05
    with watching(traced) as reader:
        reader.next()
        assert not isinstance(engine.trace, NullTrace)
    eventually(lambda: isinstance(engine.trace, NullTrace))
    complete(traced)
    with watching(traced) as reader:  # the engine's events count on
        assert reader.next()["sequences"] == []


def test_whoever_comes_back_soon_misses_nothing(traced: Running) -> None:
    with watching(traced) as reader:
        reader.next()
        complete(traced)
        reader.next()
        seen, owners = reader.id, reader.owners
    complete(traced)
    with watching(traced, seen) as again:
        again.owners = owners
        again.leaves("finished")
        again.leaves("finished")
        assert again.owners and not again.owners.refs


def test_whoever_comes_back_too_late_is_told_what_is_lost(traced: Running) -> None:
    traced.served.watchers._most_bytes = 4000
    with watching(traced) as reader:
        reader.next()
        seen = reader.id
    complete(traced, max_tokens=100)
    place = int(seen.split("-")[1]) + 100
    eventually(lambda: traced.served.watchers.place == place)
    with watching(traced, seen) as again:
        assert again.next() == {"type": "dropped", "news": 100}
        assert again.next()["type"] == "snapshot"
        complete(traced)
        again.leaves("finished")
        assert traced.served.watchers._num_bytes <= 4000


@pytest.mark.parametrize(
    "last_id",
    ["nonsense", "00000000-3", "-1", "1", "é", "LIFE-99999", "LIFE-" + "9" * 5000, "LIFE-x"],
)
def test_an_id_of_another_life_begins_anew(traced: Running, last_id: str) -> None:
    last_id = last_id.replace("LIFE", traced.served.watchers._life)
    headers = {b"last-event-id": last_id.encode()}
    with httpx.stream("GET", f"{traced.url}{ROUTE}", headers=headers, timeout=20) as response:
        assert Reader(response).next()["type"] == "snapshot"


def test_an_abort_that_leaves_nothing_to_do_is_told(traced: Running) -> None:
    assert isinstance(traced.engine, TracedEngine)
    traced.engine.step_s = 0.01
    with watching(traced) as reader:
        reader.next()
        body = {"prompt": [9] * 20, "max_tokens": 900, "stream": True}
        with httpx.stream("POST", f"{traced.url}/v1/completions", json=body) as response:
            next(response.iter_lines())
        reader.leaves("aborted")
        assert reader.owners and not reader.owners.sequences


def test_a_measurement_pauses_the_stream(traced: Running) -> None:
    with watching(traced) as reader:
        reader.next()
        body = {"lengths": [64, 256, 1024], "blocks": 2}
        httpx.post(f"{traced.url}/explorer/v1/measure", json=body, timeout=20)
        paused = reader.next()
        assert paused["type"] == "paused" and "measurement" in paused["reason"]
        assert reader.next()["type"] == "snapshot"
        complete(traced)
        reader.leaves("finished")


def test_a_key_is_asked_for(start: Any) -> None:
    with start(TracedEngine(), api_keys=["secret"]) as server:
        assert httpx.get(f"{server.url}{ROUTE}").status_code == 401
        headers = {"authorization": "Bearer secret"}
        with httpx.stream("GET", f"{server.url}{ROUTE}", headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert Reader(response).next()["type"] == "snapshot"


def test_a_new_engine_goes_on_in_the_same_stream(start: Any) -> None:
    with start() as server, watching(server) as reader:
        assert reader.next()["type"] == "snapshot"
        os.kill(server.pid, signal.SIGKILL)
        news = reader.next()
        assert news["type"] == "restarting" and "SIGKILL" in news["reason"]
        assert reader.next()["type"] == "snapshot"


def test_the_stream_ends_with_the_server(start: Any) -> None:
    told: list[dict[str, Any]] = []

    def read(server: Running, begun: threading.Event) -> None:
        with watching(server) as reader:
            told.append(reader.next())
            begun.set()
            try:
                while True:
                    told.append(reader.next())
            except (EOFError, httpx.RemoteProtocolError):
                pass

    with start(FakeEngine()) as server:
        begun = threading.Event()
        thread = threading.Thread(target=read, args=(server, begun))
        thread.start()
        assert begun.wait(10)
    thread.join(10)
    assert not thread.is_alive()


def test_a_slow_reader_costs_nothing_but_its_place() -> None:
    """It is told how much it missed, and what it is given fits together."""

    async def scenario() -> None:
        ring = Watchers(None, most_bytes=2000)  # type: ignore[arg-type]
        state = PoolState(id=0, step=0, ns=0, num_blocks=4, block_size=4, sequences=[])
        ring.push(Watched(state))
        slow = ring.join().events(1.0)
        assert b'"snapshot"' in await anext(slow)
        for number in range(1, 301):
            ring.push(Traced([StepEvent(id=number, step=number, ns=0, happened=[])]))
            assert ring._num_bytes <= 2000
        told = await anext(slow)
        assert b'{"type":"dropped","news":300}' in told and b'"id":300' in told
        ring.push(Traced([StepEvent(id=301, step=301, ns=0, happened=[])]))
        assert b'"id":301' in await anext(slow)

    asyncio.run(scenario())
