"""HTTP itself: who may enter, bodies of bounded size, streams of events, clients that go away.

The gate is deny by default: a path is closed unless it is listed as open, so that a new route
cannot be forgotten. The page's own files are open: they are the same everywhere, and the page must
load to ask for a key; what it shows is not. The gate is a plain ASGI wrapper; Starlette's
`BaseHTTPMiddleware` would put a queue between server and stream and hide the disconnects that free
the blocks.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pellucid.errors import InputError
from pellucid.server.errors import ApiError, to_json, too_large
from pellucid.server.link import Flight, Job

OPEN_PATHS: Final = frozenset({"/health", "/ping"})
WITHOUT_PREFIX: Final = ("/models", "/completions", "/chat/completions")
"""Routes that a client with a base URL without /v1 asks for; nothing else has these names."""
PAGE_FILES: Final = "/assets/"
DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"

T = TypeVar("T")


class Gate:
    """Gives every request an id and lets it in if it knows a key (or none is asked for)."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str]) -> None:
        self.app = app
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["path"] = clean_path(scope["path"])
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (b"x-request-id", f"req_{request_id}".encode())
                message["headers"] = [*message["headers"], header]
            await send(message)

        app = self.app if self._admits(scope) else unauthorized()
        await app(scope, receive, send_with_id)

    def _admits(self, scope: Scope) -> bool:
        headers, path = dict(scope["headers"]), scope["path"]
        if not self._keys or path in OPEN_PATHS or is_page(path, headers.get(b"accept", b"")):
            return True
        given = headers.get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        # All keys are compared, each in constant time: the time taken tells nothing.
        known = sum(hmac.compare_digest(key.strip(), ours) for ours in self._keys)
        return bool(scheme.lower() == b"bearer" and known)


def clean_path(path: str) -> str:
    """`path` as the routes have it.

    Base URLs are typed by hand: with a slash too many in front or at the end, or without /v1.
    """
    path = re.sub("/{2,}", "/", path).rstrip("/") or "/"
    bare = any(path == name or path.startswith(f"{name}/") for name in WITHOUT_PREFIX)
    return f"/v1{path}" if bare else path


def is_page(path: str, accept: bytes) -> bool:
    """Whether a browser asks for the page or its files."""
    return path.startswith(PAGE_FILES) or (path == "/" and b"text/html" in accept)


def unauthorized() -> Response:
    error = ApiError(
        401,
        "missing or wrong API key; send it as 'Authorization: Bearer KEY'",
        code="invalid_api_key",
    )
    return to_json(error.body, 401, {"www-authenticate": "Bearer"})


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The body's JSON object. Refuses what is too large before reading it, or while."""
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    value = parse_json(bytes(body))
    if not isinstance(value, dict):
        raise InputError("the body must be a JSON object", code="invalid_json")
    return value


def parse_json(body: bytes) -> Any:
    """Strict JSON; every failure is one line that names what is wrong."""
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        problem = f"the body is not valid UTF-8: {error.reason} at byte {error.start} of a string"
    except RecursionError:
        problem = "the body is nested too deeply"
    except msgspec.MsgspecError as error:
        problem = _why_not_json(body, str(error))
    raise InputError(problem, code="invalid_json")


_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def _why_not_json(body: bytes, reason: str) -> str:
    """Python's own parser gives line and column, and takes lone surrogates, which we do not."""
    try:
        json.loads(body.decode())
    except json.JSONDecodeError as error:
        return f"the body is not valid JSON: {error}"
    except UnicodeDecodeError as error:
        return f"the body is not valid UTF-8: {error.reason} at byte {error.start}"
    except (RecursionError, ValueError):
        return f"the body is not valid JSON: {reason}"
    if _ESCAPED_SURROGATE.search(body):
        return "the body holds a lone surrogate (\\ud800 to \\udfff without its other half)"
    return f"the body is not valid JSON: {reason}"


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, but stop it (and raise `ClientDisconnect`) when the client goes away.

    The request's body must have been read: after it, the next message is the disconnect.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


class EventStream(Response):
    """Server-sent events about a flight or a job, which ends when the response does."""

    media_type = "text/event-stream"

    def __init__(
        self,
        flight: Flight | Job,
        events: AsyncGenerator[bytes, None],
        headers: Mapping[str, str] = {},
    ) -> None:
        fixed = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(headers={**headers, **fixed})
        del self.headers["content-length"]
        self._flight = flight
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._flight:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            try:
                await until_disconnect(receive, self._send_events(send))
            except ClientDisconnect:
                return
            await send({"type": "http.response.body", "body": b""})

    async def _send_events(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for data in events:
                await send({"type": "http.response.body", "body": data, "more_body": True})
