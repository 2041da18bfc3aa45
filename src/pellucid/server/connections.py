"""Connections: as many as the system gives, none of them idle for long, few words in the log.

A connection on which nothing is ever asked costs a file descriptor. When those run out nobody else
gets in, and asyncio logs a traceback for each connection that it could not take: thousands a
second.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

FIRST_REQUEST_S = 20.0
"""Within which something must be asked on a new connection."""
MOST_FILES = 1 << 16
SAY_EVERY_S = 10.0


class PromptProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's, with an end for connections on which nothing comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._nothing_came = loop.call_later(FIRST_REQUEST_S, transport.close)

    def data_received(self, data: bytes) -> None:
        self._nothing_came.cancel()
        super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._nothing_came.cancel()
        super().connection_lost(error)


class NoUpgrade(logging.Filter):
    """Leaves out what uvicorn says of an upgrade that was offered and not taken: no fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not message.startswith(("Unsupported upgrade request", "No supported WebSocket"))


class Failures:
    """asyncio's handler of exceptions, but for connections that could not be taken: it says one
    word about them every few seconds instead of building a traceback for each."""

    def __init__(self) -> None:
        self._said = -SAY_EVERY_S

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "out of system resource" not in context["message"]:
            loop.default_exception_handler(context)
            return
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            logging.getLogger("pellucid").error(
                "too many open connections: no file descriptor is left"
            )


def prepare() -> None:
    """Settle logging and limits, once before the server listens."""
    logging.getLogger("uvicorn.error").addFilter(NoUpgrade())
    asyncio.get_running_loop().set_exception_handler(Failures())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
