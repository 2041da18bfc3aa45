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
from typing import Any, Protocol

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.request import EngineInfo, EngineStats, Request
from pellucid.server.pending import Job, Submission
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
        self._calls: dict[str, asyncio.Future[Any]] = {}
        """What has one answer (a switch, a look inside), by the id of the call that asked."""
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
        info: EngineInfo = await self._call(job_id, Switch(job_id, choices), MEASURING)
        return info

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
        view: dict[str, Any] = await self._call(job_id, ShowAttention(job_id, wish), ENGAGED)
        return view

    async def _call(self, job_id: str, command: Command, why_busy: str) -> Any:
        """The one answer to `command`; refused at once while a measurement runs."""
        if self.down:
            raise EngineDown(self.down)
        if self.is_engaged:  # the engine would say so too, but not before its next look
            raise InputError(why_busy, code="busy")
        self._calls[job_id] = asyncio.get_running_loop().create_future()
        self._send(command)
        try:
            return await self._calls[job_id]
        finally:
            del self._calls[job_id]

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
        for waiting in [*futures, *self._calls.values()]:
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
                elif (call := self._calls.get(request_id)) and not call.done():
                    call.set_exception(error)
            case Progress(job_id) | Measured(job_id):
                if job := self.jobs.get(job_id):
                    job.push(event)
            case Watched() | Traced() | Unwatched():
                self._listener.push(event)
            case Switched(job_id, answer) | AttentionShown(job_id, answer):
                if (call := self._calls.get(job_id)) and not call.done():
                    call.set_result(answer)
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
