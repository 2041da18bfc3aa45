"""The asyncio side of the engine: requests go out, and each request's tokens come back to it.

One task reads the socket and hands each event to the `Submission` it belongs to: whatever one HTTP
call asked for, one request or many, behind one queue. A submission is a context manager: leaving it
early, for whatever reason, aborts what has not ended, so that a client that goes away frees its
blocks.

The queue of a submission is not bounded, and need not be: it holds no more than the answers of its
own call. A slow reader costs memory in proportion to what it asked for, and stops nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.request import EngineInfo, EngineStats, Output, Request
from pellucid.server.protocol import (
    ENGAGED,
    MEASURING,
    Abort,
    Accepted,
    Add,
    AttentionShown,
    Command,
    Event,
    Fatal,
    GetStats,
    Imported,
    Measure,
    Measured,
    Outputs,
    Progress,
    Ready,
    Refused,
    ShowAttention,
    Snapshot,
    Start,
    Switch,
    Switched,
    Traced,
    Unframer,
    Unwatch,
    Unwatched,
    Watch,
    Watched,
    decode_event,
    frame,
)

RECEIVE_BYTES = 1 << 18


class EngineDown(Exception):
    """The engine's process is gone; the message says why."""

    def __init__(self, reason: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        """When to try again; None: what was in flight is lost, or no engine is coming."""


class Submission:
    """The requests of one call on their way. Use in a `with`."""

    def __init__(self, link: EngineLink, requests: Sequence[Request]) -> None:
        self._link = link
        self._unanswered = {request.id for request in requests}
        self._open = {request.id: request.params.n for request in requests}
        self._outputs: list[Output] = []
        self._error: Exception | None = None
        self._news = asyncio.Event()

    async def accepted(self) -> None:
        """Wait until the engine has taken all of it; raises what it refused with."""
        while self._unanswered and not self._error:
            await self._wait()
        if self._error:
            raise self._error

    async def take(self, timeout: float | None = None) -> list[Output]:
        """All outputs since the last call, at least one; [] after the end. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not self._outputs and self._open and not self._error:
                await self._wait()
        outputs, self._outputs = self._outputs, []
        if self._error and not outputs:
            raise self._error
        return outputs

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def accept(self, request_id: str) -> None:
        self._unanswered.discard(request_id)
        self._news.set()

    def push(self, output: Output) -> None:
        self._outputs.append(output)
        if output.finish_reason is not None:
            self._open[output.request_id] -= 1
            if not self._open[output.request_id]:
                self._land(output.request_id)
        self._news.set()

    def refuse(self, request_id: str, error: InputError) -> None:
        self._land(request_id)
        self.fail(error)

    def fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._news.set()

    def _land(self, request_id: str) -> None:
        del self._open[request_id]
        self._link.submissions.pop(request_id, None)

    def close(self) -> None:
        """Abort what has not ended."""
        for request_id in list(self._open):
            self._land(request_id)
            self._link.abort(request_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Job:
    """A measurement on its way. Use in a `with`: leaving it early stops it."""

    def __init__(self, link: EngineLink, job_id: str, gives_way: bool) -> None:
        self._link = link
        self._id = job_id
        self.gives_way = gives_way
        self._news: asyncio.Queue[Progress | Measured | Exception] = asyncio.Queue()

    async def take(self, timeout: float | None = None) -> Progress | Measured:
        """What has happened next; `Measured` is the last. Raises TimeoutError, or why it failed."""
        async with asyncio.timeout(timeout):
            news = await self._news.get()
        if isinstance(news, Exception):
            raise news
        return news

    def push(self, news: Progress | Measured | Exception) -> None:
        self._news.put_nowait(news)
        if not isinstance(news, Progress):
            self._link.jobs.pop(self._id, None)

    def fail(self, error: Exception) -> None:
        self.push(error)

    def close(self) -> None:
        if self._link.jobs.pop(self._id, None):
            self._link.abort(self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Listener(Protocol):
    """Takes what the engine tells of its steps, at once and without waiting."""

    def push(self, news: Watched | Traced | Unwatched) -> None: ...


class NoListener:
    """Off: what still comes is for nobody."""

    def push(self, news: Watched | Traced | Unwatched) -> None:
        pass


async def _no_more_to_say() -> str:
    return "the engine closed the connection"


class EngineLink:
    """A connection to an engine in another process. Make it with `open`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        explain: Callable[[], Awaitable[str]],
    ) -> None:
        self.submissions: dict[str, Submission] = {}
        self.jobs: dict[str, Job] = {}
        self.down: str | None = None
        """Why the engine is not there, once it is not."""
        self.imports_s: dict[str, float] | None = None
        """What the process's imports took, by part; None: it is not yet past them."""
        self.last_stats = EngineStats()
        self._listener: Listener = NoListener()
        self._gone = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._explain = explain
        self._ready: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()
        self._asking: deque[asyncio.Future[EngineStats]] = deque()
        self._changes: dict[str, asyncio.Future[EngineInfo]] = {}
        """Of switches, by the id of the call that asked for them."""
        self._looks: dict[str, asyncio.Future[dict[str, Any]]] = {}
        """The same for views of attention."""
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, sock: socket.socket, explain: Callable[[], Awaitable[str]] = _no_more_to_say
    ) -> EngineLink:
        """Speak over `sock`. `explain` is asked for the reason when it closes without one."""
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        return cls(reader, writer, explain)

    async def start(self, config: EngineConfig) -> EngineInfo:
        """Have the model loaded. Raises `InputError` if it cannot be, `EngineDown` on a crash."""
        self._send(Start(config))
        return await asyncio.shield(self._ready)

    def submit(self, requests: Sequence[Request]) -> Submission:
        if self.down:
            raise EngineDown(self.down)
        frames = [frame(Add(request)) for request in requests]
        submission = Submission(self, requests)
        self.submissions.update({request.id: submission for request in requests})
        self._writer.writelines(frames)
        return submission

    def measure(
        self,
        job_id: str,
        settings: dict[str, Any],
        *,
        force: bool = False,
        gives_way: bool = False,
    ) -> Job:
        """Have the engine time its stages; `settings` are those of `explore.cells`."""
        if self.down:
            raise EngineDown(self.down)
        if gives_way and self.jobs:
            raise InputError(MEASURING, code="busy")
        self.jobs[job_id] = job = Job(self, job_id, gives_way)
        self._send(Measure(job_id, settings, force, gives_way))
        return job

    @property
    def is_engaged(self) -> bool:
        """Whether a measurement has the engine to itself and gives way to nobody."""
        return not all(job.gives_way for job in self.jobs.values())

    async def switch(self, job_id: str, choices: dict[str, str]) -> EngineInfo:
        """Have the engine go on with other switches. `InputError` for what cannot be had."""
        if self.down:
            raise EngineDown(self.down)
        if (
            self.is_engaged
        ):  # the engine would say so too, but not before its next look at the socket
            raise InputError(MEASURING, code="busy")
        self._changes[job_id] = asyncio.get_running_loop().create_future()
        self._send(Switch(job_id, choices))
        try:
            return await self._changes[job_id]
        finally:
            del self._changes[job_id]

    def watch(self, listener: Listener) -> None:
        """Have `listener` told of every step: the state first, then what changes."""
        self._listener = listener
        self._send(Watch())

    def unwatch(self) -> None:
        self._listener = NoListener()
        self._send(Unwatch())

    async def attention(self, job_id: str, wish: dict[str, Any]) -> dict[str, Any]:
        """What the heads look at in a text; `wish` is `explore.attention.AttentionWish`.
        `InputError` if it does not fit."""
        if self.down:
            raise EngineDown(self.down)
        if self.is_engaged:
            raise InputError(ENGAGED, code="busy")
        self._looks[job_id] = asyncio.get_running_loop().create_future()
        self._send(ShowAttention(job_id, wish))
        try:
            return await self._looks[job_id]
        finally:
            del self._looks[job_id]

    def abort(self, request_id: str) -> None:
        self._send(Abort(request_id))

    async def stats(self, timeout: float) -> EngineStats:
        """The engine's state now; TimeoutError if it is busy with one step for so long."""
        if self.down:
            raise EngineDown(self.down)
        answer: asyncio.Future[EngineStats] = asyncio.get_running_loop().create_future()
        self._asking.append(answer)
        self._send(GetStats())
        return await asyncio.wait_for(answer, timeout)

    async def gone(self) -> str:
        """Wait until the engine is not there any more; why."""
        await self._gone.wait()
        return self.down or ""

    def fail(self, reason: str) -> None:
        """From now on there is no engine: whatever is in flight ends with `reason`."""
        if self.down:
            return
        self.down = reason
        self._gone.set()
        error = EngineDown(f"{reason}; what was being answered is lost: send it again")
        open_calls: list[Submission | Job] = [*set(self.submissions.values()), *self.jobs.values()]
        for call in open_calls:
            call.fail(error)
        error = EngineDown(reason)
        futures: list[asyncio.Future[Any]] = [self._ready, *self._asking]
        for waiting in [*futures, *self._changes.values(), *self._looks.values()]:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # asked for here, so that nobody waiting is no warning

    async def close(self) -> None:
        self.fail("the server is shutting down")
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.transport.abort()  # what a stuck engine has not read it never will
        with contextlib.suppress(ConnectionError):  # closed is closed, whoever was first
            await self._writer.wait_closed()

    def _send(self, command: Command) -> None:
        if not self.down:
            self._writer.write(frame(command))

    async def _read(self) -> None:
        unframer = Unframer()
        try:
            while data := await self._reader.read(RECEIVE_BYTES):
                for body in unframer.feed(data):
                    self._handle(decode_event(body))
        except ConnectionResetError:
            pass  # an end of file with unread commands on the other side
        except Exception as error:
            traceback.print_exception(error)
            self.fail(f"the link to the engine broke: {error!r}")
        self.fail(await self._explain())

    def _handle(self, event: Event) -> None:
        match event:
            case Outputs(outputs):
                for output in outputs:
                    if submission := self.submissions.get(output.request_id):
                        submission.push(output)
            case Accepted(request_id):
                if submission := self.submissions.get(request_id):
                    submission.accept(request_id)
            case Refused(request_id, message, param, code):
                error = InputError(message, param=param, code=code)
                if submission := self.submissions.get(request_id):
                    submission.refuse(request_id, error)
                elif job := self.jobs.get(request_id):
                    job.fail(error)
                else:
                    waited: asyncio.Future[Any] | None = self._changes.get(request_id)
                    waited = waited or self._looks.get(request_id)
                    if waited and not waited.done():
                        waited.set_exception(error)
            case Progress(job_id) | Measured(job_id):
                if job := self.jobs.get(job_id):
                    job.push(event)
            case Watched() | Traced() | Unwatched():
                self._listener.push(event)
            case Switched(job_id, info):
                if (change := self._changes.get(job_id)) and not change.done():
                    change.set_result(info)
            case AttentionShown(job_id, view):
                if (look := self._looks.get(job_id)) and not look.done():
                    look.set_result(view)
            case Snapshot(stats):
                self.last_stats = stats
                waiting = self._asking.popleft()
                if not waiting.done():
                    waiting.set_result(stats)
            case Imported(seconds):
                self.imports_s = seconds
            case Ready(info):
                self._ready.set_result(info)
            case Fatal(message, bad_input):
                if bad_input and not self._ready.done():
                    self._ready.set_exception(InputError(message))
                self.fail(message)
