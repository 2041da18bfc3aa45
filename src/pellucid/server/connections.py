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


class Quiet(logging.Filter):
    """Leaves out what is no fault (an upgrade that was offered and not taken), and of connections
    that could not be taken all but one every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._said = -SAY_EVERY_S

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "out of system resource" in message:
            now = time.monotonic()
            if now - self._said < SAY_EVERY_S:
                return False
            self._said = now
            record.exc_info = None
            record.msg, record.args = "too many open connections: no file descriptor is left", ()
        return not message.startswith(("Unsupported upgrade request", "No supported WebSocket"))


def prepare() -> None:
    """Settle logging and limits, once before the server listens."""
    quiet: Any = Quiet()
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(quiet)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
