"""The Explorer's routes: what this server is, measuring it while it serves, and the runs so far.

The page shows what these and the routes of `modelling.py` say, and computes no figure of its own
that they could give it. Measuring happens in the engine's process on
the engine that serves (see `worker.take_measure`); the run file is streamed back when it is done
and kept (`runs.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from pellucid.errors import InputError
from pellucid.explore import runfile
from pellucid.features import FEATURES, Feature
from pellucid.request import to_builtins
from pellucid.server.errors import ApiError, as_api_error, to_json
from pellucid.server.http import KEEP_ALIVE, EventStream, event, until_disconnect
from pellucid.server.parsing import parse
from pellucid.server.pending import Job
from pellucid.server.protocol import Measured, Progress
from pellucid.server.runs import MAX_RUNS, Known, entry
from pellucid.server.served import Served
from pellucid.server.threads import in_daemon

LIVE_LENGTHS = tuple(64 * 2**octave for octave in range(7))
LIVE_PHASES = ["decode"]
"""Of *Measure now* unless told otherwise; if they fit, enough cells to fit the model to."""
FIXED = "this server was started with --fixed-switches: its operator sets them at the start"
FEWEST_BLOCKS = 3
"""Of a measurement that gave way: fewer say nothing of how far they can be trusted."""
SPARE = 16
"""Tokens of context besides those that are decoded around a length."""
LIVE_SECONDS = 40.0
"""What *Measure now* measures unless told otherwise: an answer within a minute on two cores."""

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Counts = Annotated[list[Count], msgspec.Meta(max_length=64)]


class MeasureBody(msgspec.Struct, kw_only=True):
    lengths: Counts | None = None
    phases: Annotated[list[str], msgspec.Meta(max_length=2)] | None = None
    batches: Counts | None = None
    blocks: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    max_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = LIVE_SECONDS
    """Others wait meanwhile, so that there must be an end."""
    force: bool = False
    background: bool = False
    """While nobody wants anything else: ends with the blocks that are whole as soon as anybody
    does."""
    against: dict[str, str] = {}
    """Switches of a second setting, measured in turns with the engine's own."""


async def capabilities(request: HttpRequest) -> Response:
    """Model, machine and switches, and what measuring takes unless told otherwise."""
    served = Served.of(request)
    info, spec = served.info, served.spec
    return to_json(
        {
            "model": {
                "name": served.names[0],
                "spec": to_builtins(spec),
                "weight_bytes": info.weight_bytes,
                "kv_bytes_per_token": info.kv_bytes_per_token,
                "context_length": info.context_length,
            },
            "engine": to_builtins(info),
            "device": info.device_name,
            "switches": [switch(feature, served) for feature in FEATURES],
            "measure": {
                "lengths": live_lengths(info.context_length),
                "phases": LIVE_PHASES,
                "batches": [1],
                "blocks": 10,
                "max_seconds": LIVE_SECONDS,
                "by_itself": served.measures_itself,
            },
        }
    )


def live_lengths(context_length: int) -> list[int]:
    """As many of the usual ones as fit, with room for the tokens that are decoded."""
    return [n for n in LIVE_LENGTHS if n + n // 8 + SPARE <= context_length] or [
        context_length // 2
    ]


def switch(feature: Feature, served: Served) -> dict[str, Any]:
    """A row of the switchboard, what the switch came to here and why, and how to set it."""
    info = served.info
    return {
        "key": feature.key,
        "summary": feature.summary,
        "choices": feature.choices,
        "default": feature.default,
        "off": feature.off,
        "current": info.switches.get(feature.key, feature.default),
        "values": [
            {"value": value, "why_not": why_not}
            for value, why_not in info.obstacles.get(feature.key, {}).items()
        ],
        "why": info.why.get(feature.key, ""),
        "flag": f"--{feature.key.replace('_', '-')}",
        "exactness": feature.exactness,
        "about": feature.about,
        "paper": feature.paper,
    }


async def change_switches(request: HttpRequest) -> Response:
    """Have the engine go on with other switches; answers being made go on with them."""
    served = Served.of(request)
    if served.fixed_switches:
        raise ApiError(403, FIXED, code="switches_fixed")
    choices = await served.read(request, choices_of)
    begin = time.monotonic()
    change = served.engine.switch(request.state.request_id, choices)
    # To the end, even if the client leaves: what the engine became must be known here.
    info = await asyncio.shield(asyncio.ensure_future(change))
    return to_json(
        {
            "switches": [switch(feature, served) for feature in FEATURES],
            "engine": to_builtins(info),
            "seconds": round(time.monotonic() - begin, 3),
        }
    )


def choices_of(body: dict[str, Any]) -> dict[str, str]:
    """Switch → value; a number may be sent as such."""
    if not body:
        raise InputError('name a switch and its value, such as {"kv_cache": "off"}')
    for name, value in body.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(f'{name} must be a text such as "off", or a number', param=name)
    return {name: str(value) for name, value in body.items()}


async def measure(request: HttpRequest) -> Response:
    """Time the engine's stages; a stream of events, the last of which is the run file."""
    served = Served.of(request)
    body = await served.read(request, lambda value: parse(value, MeasureBody))
    if body.background and not served.measures_itself:
        why = "this server was started with --no-auto-measure: it measures when it is asked to"
        raise ApiError(403, why, code="no_auto_measure")
    if body.against and served.fixed_switches:
        raise ApiError(403, FIXED, code="switches_fixed")
    wanted = {
        "lengths": body.lengths or live_lengths(served.info.context_length),
        "phases": body.phases or LIVE_PHASES,
        "batches": body.batches,
        "blocks": body.blocks,
        "max_seconds": body.max_seconds,
        "against": body.against or None,
    }
    settings = {key: value for key, value in wanted.items() if value is not None}
    link = await until_disconnect(request.receive, served.engine.ready())
    job = link.measure(
        request.state.request_id, settings, force=body.force, gives_way=body.background
    )
    try:
        # The status line waits for the first word, so that a refusal is a proper 4xx.
        first = await until_disconnect(request.receive, job.take())
    except BaseException:
        job.close()
        raise
    return EventStream(job, _events(served, job, first, body.background))


async def _events(
    served: Served, job: Job, news: Progress | Measured, background: bool
) -> AsyncGenerator[bytes, None]:
    """What happens, as server-sent events."""
    try:
        while isinstance(news, Progress):
            yield event(progress(news))
            while True:
                try:
                    news = await job.take(served.keep_alive_s)
                    break
                except TimeoutError:
                    yield KEEP_ALIVE
        num_blocks = len(news.run["cells"][0]["wall_ns"])
        if background and news.run["interrupted"] and num_blocks < FEWEST_BLOCKS:
            why = (
                f"it gave way after {num_blocks} blocks, and fewer than {FEWEST_BLOCKS} say little"
            )
            raise ApiError(409, why, code="gave_way")
        for run in (news.other, news.run):
            if run is not None:
                served.runs.keep(run)
        own = await in_daemon(lambda: with_answers(served, news.run))
        other = await in_daemon(lambda: with_answers(served, news.other))
        yield event({"type": "run", **own, "other": other or None})
    except Exception as error:
        yield event({"type": "error", **as_api_error(error).body})
        if not isinstance(error, (ApiError, InputError)) and as_api_error(error).status == 500:
            raise


def progress(news: Progress) -> dict[str, Any]:
    """As the page is told; the cost estimate is an event of its own."""
    if news.doing == "measure" and news.note:
        return {"type": "estimate", "seconds": news.total, "text": news.note}
    if news.cell is not None:
        done = {"done": news.done, "total": news.total}
        return {"type": "cell", "cell": news.cell, "text": news.doing, **done}
    text = news.note or news.doing
    return {"type": "progress", "done": news.done, "total": news.total, "text": text}


async def events(request: HttpRequest) -> Response:
    """What every step does to sequences and blocks, for as long as the client stays. A client that
    comes back with `Last-Event-ID` goes on from there, or is told what it has missed."""
    served = Served.of(request)
    # The status line waits for an engine, so that a restart is a proper 503.
    await until_disconnect(request.receive, served.engine.ready())
    watcher = served.watchers.join(request.headers.get("last-event-id", ""))
    return EventStream(watcher, watcher.events(served.keep_alive_s))


async def list_runs(request: HttpRequest) -> Response:
    """The runs that this server has, the one to show first at the head."""
    served = Served.of(request)
    info = served.info
    found = served.runs.best_first(info.device_name, info.model, info.device != "cpu")
    return to_json({"runs": [entry(known) for known in found]})


async def show_run(request: HttpRequest) -> Response:
    run_id = request.path_params["run_id"]
    served = Served.of(request)
    known = served.runs.get(run_id, served.info.device_name)
    if known is None:
        raise ApiError(
            404,
            f"this server has no run {run_id}: it keeps the last {MAX_RUNS} that it measured; "
            "import the run's file instead",
            code="run_not_found",
        )
    answers = await in_daemon(lambda: served.runs.answers(known))
    return to_json({"run": known.run, "answers": answers})


def with_answers(served: Served, run: runfile.Record | None) -> dict[str, Any]:
    """A run that was just measured, and what it says; nothing of none."""
    if run is None:
        return {}
    return {"run": run, "answers": served.runs.answers(Known(run, "measured"))}
