"""The routes, in one table, behind the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pellucid import __version__
from pellucid.server import attention, explorer, modelling, openai, page, tokens
from pellucid.server.errors import HANDLERS, to_json
from pellucid.server.http import PAGE_FILES, Gate, is_page
from pellucid.server.link import EngineDown
from pellucid.server.served import Served

STATS_S = 1.0


async def health(request: Request) -> Response:
    """200 with the engine's state, or 503 with the reason; a busy engine counts as healthy."""
    engine = Served.of(request).engine
    lives: dict[str, Any] = {"restarts": engine.num_restarts, "spare": engine.spare.is_waiting}
    if engine.reason:
        lives["reason"] = engine.reason  # of the last restart, or why there is no engine now
    try:
        if not engine.is_up:
            raise EngineDown(engine.reason)
        stats, fresh = await engine.link.stats(STATS_S), True
    except TimeoutError:
        stats, fresh = engine.link.last_stats, False
    except EngineDown as error:
        # One that has just died is not being restarted yet, but for the next few microseconds.
        state = "restarting" if engine.state == "ready" else engine.state
        headers = {"retry-after": str(again)} if (again := engine.retry_after_s) else {}
        return to_json({"reason": str(error), **lives, "status": state}, 503, headers)
    return to_json({"status": "ok", "fresh": fresh, **lives, **msgspec.to_builtins(stats)})


async def version(request: Request) -> Response:
    return to_json({"version": __version__})


async def index(request: Request) -> Response:
    """The page for a browser; for a program, where to go from here."""
    if is_page("/", request.headers.get("accept", "").encode()):
        return page.index()
    served = Served.of(request)
    paths = [route.path for route in ROUTES]
    return to_json({"name": "pellucid", "models": list(served.names), "routes": paths})


ROUTES = [
    Route("/", index),
    Route("/health", health),
    Route("/ping", health, methods=["GET", "POST"]),
    Route("/version", version),
    Route("/v1/models", openai.list_models),
    Route("/v1/models/{model:path}", openai.show_model),
    Route("/v1/completions", openai.completions, methods=["POST"]),
    Route("/v1/chat/completions", openai.chat_completions, methods=["POST"]),
    Route("/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/tokenizer_info", tokens.tokenizer_info),
    Route("/explorer/v1/capabilities", explorer.capabilities),
    Route("/explorer/v1/switches", explorer.change_switches, methods=["POST"]),
    Route("/explorer/v1/events", explorer.events),
    Route("/explorer/v1/measure", explorer.measure, methods=["POST"]),
    Route("/explorer/v1/answers", modelling.answers, methods=["POST"]),
    Route("/explorer/v1/calibrate", modelling.calibrate, methods=["POST"]),
    Route("/explorer/v1/counts", modelling.counts, methods=["POST"]),
    Route("/explorer/v1/curves", modelling.curves, methods=["POST"]),
    Route("/explorer/v1/known", modelling.known),
    Route("/explorer/v1/attention", attention.show, methods=["POST"]),
    Route("/explorer/v1/runs", explorer.list_runs),
    Route("/explorer/v1/runs/{run_id}", explorer.show_run),
    Route(PAGE_FILES + "{name}", page.asset),
]


def build_app(
    served: Served, api_keys: Sequence[str] = (), allowed_origins: Sequence[str] = ()
) -> ASGIApp:
    """The whole application. With keys, every path but /health and /ping asks for one of them.

    Pages from `allowed_origins` may call it from a browser, "*" means any page; what a browser asks
    before (a preflight) carries no key and needs none.
    """
    app = Starlette(routes=ROUTES, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    app.state.served = served
    gate = Gate(app, api_keys, allowed_origins)
    if not allowed_origins:
        return gate
    return CORSMiddleware(
        gate,
        allow_origins=allowed_origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=("x-request-id", "retry-after", "warning"),
    )
