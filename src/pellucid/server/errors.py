"""Every failure in OpenAI's shape: {"error": {"message", "type", "param", "code"}}.

Clients tell classes of errors apart by the status (400, 401, 404, 429, 5xx) and retry 429 and 5xx
by themselves; so whatever the caller must mend is a plain 4xx, and what will not mend itself says
`x-should-retry: false`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pellucid.errors import InputError
from pellucid.server.link import EngineDown

LINGER_BYTES = 64 << 20
LINGER_S = 5.0
STATUS_OF_CODE = {"model_not_found": 404, "busy": 409, "overloaded": 429, "view_failed": 500}


class ApiError(Exception):
    """An answer other than 2xx."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {
            "error": {"message": message, "type": _type_of(status), "param": param, "code": code}
        }


def _type_of(status: int) -> str:
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


def as_api_error(error: Exception) -> ApiError:
    """What the client is told about `error`; a bug of ours keeps its details to itself."""
    match error:
        case ApiError():
            return error
        case InputError():
            status = STATUS_OF_CODE.get(error.code or "", 400)
            headers = {"retry-after": "1"} if status == 429 else {}
            return ApiError(status, str(error), param=error.param, code=error.code, headers=headers)
        case EngineDown():
            return engine_down(error)
    return ApiError(500, "internal error; the server's log has the details", code="internal_error")


def engine_down(error: EngineDown) -> ApiError:
    """Whoever came too early may come again; who was in flight had better ask whether to."""
    if error.retry_after_s is not None:
        headers = {"retry-after": str(error.retry_after_s)}
        return ApiError(503, str(error), code="engine_restarting", headers=headers)
    headers = {"x-should-retry": "false"}
    return ApiError(503, str(error), code="engine_down", headers=headers)


def to_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, status, headers=headers, media_type="application/json")


class TooLarge(Response):
    """A 413 that arrives: after the answer, read on for a while what the client still sends.

    Closing at once would reset the connection under a client that writes its whole body before it
    looks for an answer. Nothing of what is read here is kept.
    """

    def __init__(self, error: ApiError) -> None:
        body = msgspec.json.encode(error.body)
        super().__init__(body, 413, {"connection": "close"}, "application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 413, "headers": self.raw_headers}
        await send(start)
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_S):
                await _discard(receive)
        except TimeoutError:
            pass  # it has had its time; the connection closes either way
        await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    left = LINGER_BYTES
    while left > 0:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return
        left -= len(message["body"])


def too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"the body is larger than {limit:,} bytes; send less, or start the server with a larger "
        "--max-body",
        code="body_too_large",
    )


def no_such_route(request: Request, error: HTTPException) -> ApiError:
    """What was asked for by method and path, and what there is."""
    asked = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        why = f"there is no {asked} here; this path takes {allowed}"
    else:
        explores = request.url.path.startswith("/explorer")
        routes = [
            f"{'POST' if 'POST' in (route.methods or ()) else 'GET'} {route.path}"
            for route in request.app.routes
            if route.path.startswith("/explorer") == explores and not is_file(route.path)
        ]
        why = f"there is no {asked} here; this server generates text, and has {', '.join(routes)}"
    code = error.detail.lower().replace(" ", "_")
    return ApiError(error.status_code, why, code=code, headers=dict(error.headers or {}))


def is_file(path: str) -> bool:
    return path == "/" or path.startswith("/assets/")


async def on_error(request: Request, error: Exception) -> Response:
    """The one exception handler."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody is there to read it
    if isinstance(error, HTTPException):
        error = no_such_route(request, error)
    api_error = as_api_error(error)
    if api_error.status == 413:
        return TooLarge(api_error)
    return to_json(api_error.body, api_error.status, api_error.headers)


HANDLERS: dict[Any, Any] = dict.fromkeys(
    (ApiError, InputError, EngineDown, HTTPException, ClientDisconnect, Exception), on_error
)
