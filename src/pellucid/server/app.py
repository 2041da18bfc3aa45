"""The routes, in one table, behind the gate."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pellucid.server import openai, tokens
from pellucid.server.errors import HANDLERS, to_json
from pellucid.server.http import Gate
from pellucid.server.served import Served

STATS_S = 1.0


async def health(request: Request) -> Response:
    """200 with the engine's state, or 503 with the reason; a busy engine counts as healthy."""
    link = Served.of(request).link
    try:
        stats, fresh = await link.stats(STATS_S), True
    except TimeoutError:
        stats, fresh = link.last_stats, False
    return to_json({"status": "ok", "fresh": fresh, **msgspec.to_builtins(stats)})


async def index(request: Request) -> Response:
    """Where to go from here."""
    served = Served.of(request)
    paths = [route.path for route in ROUTES]
    return to_json({"name": "pellucid", "models": list(served.names), "routes": paths})


ROUTES = [
    Route("/", index),
    Route("/health", health),
    Route("/v1/models", openai.list_models),
    Route("/v1/models/{model:path}", openai.show_model),
    Route("/v1/completions", openai.completions, methods=["POST"]),
    Route("/v1/chat/completions", openai.chat_completions, methods=["POST"]),
    Route("/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/tokenizer_info", tokens.tokenizer_info),
]


def build_app(served: Served, api_keys: Sequence[str] = ()) -> ASGIApp:
    """The whole application. With keys, every path but /health asks for one of them."""
    app = Starlette(routes=ROUTES, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    app.state.served = served
    return Gate(app, api_keys)
