"""What one HTTP call has asked of the engine and waits for: its answers, or a measurement.

Both are context managers: leaving one early, for whatever reason, aborts what has not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pellucid.errors import InputError
from pellucid.request import Output, Request
from pellucid.server.protocol import Measured, Progress

if TYPE_CHECKING:
    from pellucid.server.link import EngineLink


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
