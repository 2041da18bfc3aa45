"""A real server on a real socket, in a thread, with a fake engine behind the real link."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn
from fake_engine import SPEC, FakeEngine, FakeTokenizer, fake_look, fake_measure

from pellucid.config import EngineConfig
from pellucid.server.app import build_app
from pellucid.server.connections import PromptProtocol
from pellucid.server.host import EngineHost
from pellucid.server.launch import bind
from pellucid.server.link import EngineLink
from pellucid.server.process import EngineProcess
from pellucid.server.served import Served
from pellucid.server.supervisor import Supervisor
from pellucid.server.worker import run

HERE = Path(__file__).parent
FAKE_WORKER = (sys.executable, str(HERE / "fake_worker.py"))


@dataclass
class Running:
    """A server to talk to, and what is behind it."""

    url: str
    engine: FakeEngine | None
    served: Served

    @property
    def pid(self) -> int:
        """Of the engine's process, as it is now."""
        pid: int = self.served.engine._host.pid  # type: ignore[union-attr]
        return pid

    def __post_init__(self) -> None:
        # One for all: making a client takes longer than most tests.
        self._http = httpx.Client(base_url=self.url, timeout=20)

    def http(self) -> httpx.Client:
        return self._http

    def openai(self, api_key: str = "none") -> openai.OpenAI:
        http: Any = self._http  # the types name a newer httpx than the one that works
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, http_client=http
        )

    def close(self) -> None:
        self._http.close()


class ThreadHost:
    """The real worker around an engine in a thread of this process."""

    link: EngineLink
    worker: threading.Thread

    @classmethod
    async def spawn(cls, engine: FakeEngine) -> ThreadHost:
        self = cls()
        ours, theirs = socket.socketpair()

        def work() -> None:
            run(lambda config: engine, theirs, fake_measure, look=fake_look)
            theirs.close()

        self.worker = threading.Thread(target=work)
        self.worker.start()
        self.link = await EngineLink.open(ours)
        return self

    async def stop(self) -> None:
        await self.link.close()
        self.worker.join(5)


@contextmanager
def running(
    engine: FakeEngine | None = None,
    *,
    command: Sequence[str] = FAKE_WORKER,
    api_keys: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    tokenizer: FakeTokenizer | None = FakeTokenizer(),  # noqa: B008 (it has no state)
    **limits: Any,
) -> Iterator[Running]:
    """`engine` in a thread; without one, `command` in a process."""
    started: list[Running] = []
    ready, stop = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    async def spawn() -> EngineHost:
        return await (EngineProcess.spawn(command) if engine is None else ThreadHost.spawn(engine))

    async def main() -> None:
        supervisor = Supervisor(spawn, EngineConfig())
        await supervisor.spawn()
        await supervisor.load()
        served = Served(
            engine=supervisor,
            tokenizer=tokenizer,  # type: ignore[arg-type]
            names=["fake", "alias"],
            spec=SPEC,
            **limits,
        )
        sock = bind("127.0.0.1", 0)
        config = uvicorn.Config(
            build_app(served, api_keys, allowed_origins),
            http=PromptProtocol,
            lifespan="off",
            log_level="critical",
            access_log=False,
        )
        server = uvicorn.Server(config)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        started.append(Running(url, engine, served))
        ready.set()
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not stop.is_set():
            await asyncio.sleep(0.02)
        server.should_exit = server.force_exit = True
        await serving
        await supervisor.stop()

    def target() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failure.append(error)
            ready.set()

    thread = threading.Thread(target=target)
    thread.start()
    ready.wait(20)
    try:
        if failure:
            raise failure[0]
        yield started[0]
    finally:
        if started:
            started[0].close()
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
    if failure:
        raise failure[0]
