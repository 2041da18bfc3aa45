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
import ipaddress
import json
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pellucid.errors import InputError
from pellucid.server.errors import ApiError, to_json, too_large

OPEN_PATHS: Final = frozenset({"/health", "/ping"})
WITHOUT_PREFIX: Final = ("/models", "/completions", "/chat/completions")
"""Routes that a client with a base URL without /v1 asks for; nothing else has these names."""
PAGE_FILES: Final = "/assets/"
LOCAL_ENDINGS: Final = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
NESTED: Final = "the body is nested too deeply"
EXPLAINED_BYTES: Final = 1 << 20
DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"

T = TypeVar("T")


class Gate:
    """Gives every request an id and lets it in if it knows a key (or none is asked for)."""

    def __init__(
        self, app: ASGIApp, api_keys: Sequence[str], allowed_origins: Sequence[str] = ()
    ) -> None:
        self.app = app
        self._keys = [key.encode() for key in api_keys]
        self._origins = [origin.encode() for origin in allowed_origins]

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

        app: ASGIApp = self.app
        if not self._admits(scope):
            app = unauthorized()
        elif foreign := self._foreign_page(scope):
            app = forbidden(foreign)
        await app(scope, receive, send_with_id)

    def _foreign_page(self, scope: Scope) -> str:
        """The origin of a page that must not have anything done here, if one tries to.

        A browser lets any page send a plain POST to this machine, and only hides the answer. The
        origin tells such a page from our own. A page that has its own name point to this machine
        (DNS rebinding) would look like ours, so our own must be called by a name that nobody can
        register. With keys, who knows one may do anything.
        """
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host", b"")
        if self._keys or origin is None or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return ""
        ours = origin.partition(b"://")[2] == host and is_local(host.decode("latin-1"))
        allowed = origin in self._origins or b"*" in self._origins
        return "" if ours or allowed else origin.decode("latin-1")

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


def is_local(host: str) -> bool:
    """Whether `host`, with or without a port, is an address, or a name for use in a local network.

    >>> is_local("127.0.0.1:8000"), is_local("[::1]:8000"), is_local("mybox"), is_local("nas.local")
    (True, True, True, True)
    >>> is_local("example.org")
    False
    """
    name = host.rpartition("]")[0].removeprefix("[") or host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(LOCAL_ENDINGS)
    return True


def forbidden(origin: str) -> Response:
    error = ApiError(
        403,
        f"pages of {origin} may not call this server; to let them, start it with "
        f"--allowed-origins {origin}, or with --api-key",
        code="origin_not_allowed",
    )
    return to_json(error.body, 403)


def unauthorized() -> Response:
    error = ApiError(
        401,
        "missing or wrong API key; send it as 'Authorization: Bearer KEY'",
        code="invalid_api_key",
    )
    return to_json(error.body, 401, {"www-authenticate": "Bearer"})


async def read_body(request: Request, limit: int) -> bytes:
    """The body as it came. Refuses what is too large before reading it, or while."""
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def understood(body: bytes, work: Callable[[dict[str, Any]], T]) -> T:
    """What `work` makes of the body's JSON object."""
    try:
        value = parse_json(body)
        if not isinstance(value, dict):
            raise InputError("the body must be a JSON object", code="invalid_json")
        return work(value)
    except RecursionError:
        raise InputError(NESTED, code="invalid_json") from None


def parse_json(body: bytes) -> Any:
    """Strict JSON; every failure is one line that names what is wrong."""
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        problem = f"the body is not valid UTF-8: {error.reason} at byte {error.start} of a string"
    except msgspec.MsgspecError as error:
        problem = _why_not_json(body, str(error))
    raise InputError(problem, code="invalid_json")


_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def _why_not_json(body: bytes, reason: str) -> str:
    """Python's own parser gives line and column, and takes lone surrogates, which we do not. It
    works on a body without letting others have a turn, so a long one is left to the first."""
    if len(body) > EXPLAINED_BYTES:
        return f"the body is not valid JSON: {reason}"
    try:
        json.loads(body.decode())
    except json.JSONDecodeError as error:
        return f"the body is not valid JSON: {error}"
    except UnicodeDecodeError as error:
        return f"the body is not valid UTF-8: {error.reason} at byte {error.start}"
    except ValueError:
        return f"the body is not valid JSON: {reason}"
    if _ESCAPED_SURROGATE.search(body):
        return "the body holds a lone surrogate (\\ud800 to \\udfff without its other half)"
    return f"the body is not valid JSON: {reason}"


async def until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
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
    """Server-sent events about a submission, a job or an engine that is watched, which `source`
    stands for: it ends when the response does."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AbstractContextManager[Any],
        events: AsyncGenerator[bytes, None],
        headers: Mapping[str, str] = {},
    ) -> None:
        fixed = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(headers={**headers, **fixed})
        del self.headers["content-length"]
        self._source = source
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._source:
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
