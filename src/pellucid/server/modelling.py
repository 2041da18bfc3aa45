"""The Explorer's arithmetic as routes: answers, fits, counts and curves, from what is sent along.

Each works from the body alone and keeps nothing: a run file, or a model's shape, a machine and
switches. What the page shows of a model comes from here, so that page and command line cannot
disagree. It is done in threads, so that tokens keep flowing, and one piece at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from pellucid.errors import InputError, ModelError, suggestion
from pellucid.explore import calibrate as calibration
from pellucid.explore import runfile
from pellucid.explore.alternatives import Setup
from pellucid.explore.answer import answers_of
from pellucid.explore.counts import counts_of
from pellucid.explore.curves import Question, Scope, curves_of
from pellucid.explore.peaks import sheet_of, spec_hardware
from pellucid.explore.roofline import Hardware
from pellucid.explore.shapes import SHAPES, shape_named
from pellucid.explore.sheets import PEAKS
from pellucid.explore.workload import Choices, settled
from pellucid.model.spec import ModelSpec
from pellucid.model.spec_hf import spec_from_config
from pellucid.server.errors import to_json
from pellucid.server.http import until_disconnect
from pellucid.server.parsing import parse
from pellucid.server.served import Served
from pellucid.server.threads import in_daemon

MAX_CELLS, MAX_BLOCKS, MAX_LAYERS = 64, 200, 1000
"""Of a run file that somebody sends; what is measured here has 14 cells and 10 blocks."""

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Counts = Annotated[list[Count], msgspec.Meta(max_length=64)]


class RunBody(msgspec.Struct, kw_only=True):
    run: dict[str, Any]


class CurvesBody(msgspec.Struct, kw_only=True):
    """The shape of a model (spec, shape or config), a machine (hardware or machine), a workload."""

    name: str = ""
    """Of the model, for people."""
    spec: ModelSpec | None = None
    shape: str | None = None
    """Of a known model, by its name."""
    config: dict[str, Any] | None = None
    """A config.json."""
    hardware: Hardware | None = None
    machine: str | None = None
    """Of a data sheet, by its name."""
    choices: dict[str, Any] = {}
    """Fields of the cost model's `Choices`."""
    packed: dict[str, float] = {}
    switches: dict[str, str] = {}
    """Over the choices."""
    scope: Scope = "decode"
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    num_outputs: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 128
    lengths: Counts = []
    alternatives: bool = True


CHOICES = {field.name: None for field in dataclasses.fields(Choices)}.keys()
"""Names, in their order."""


async def answers(request: HttpRequest) -> Response:
    """What a run file from elsewhere says."""
    run = await sent_run(request)
    return to_json({"answers": await computed(request, lambda: answers_of(run, "recorded"))})


async def calibrate(request: HttpRequest) -> Response:
    """The machine that fits a run file, and how well it predicts (`pellucid calibrate --json`)."""
    run, fits = await sent_run(request), Served.of(request).fits
    if run["id"] not in fits:
        found = await computed(request, lambda: calibration.calibrate(run))
        fits.keep(calibration.calibration_file(found, run))
    return to_json(fits[run["id"]])


async def counts(request: HttpRequest) -> Response:
    """What a run's cells made its machine do, and the roofs above it."""
    run = await sent_run(request)
    return to_json(await computed(request, lambda: counts_of(run)))


async def curves(request: HttpRequest) -> Response:
    """Where the time would go at every length, with these switches and those one step away."""
    body = await Served.of(request).read(request, lambda value: parse(value, CurvesBody))
    lock = Served.of(request).drawing

    def work() -> dict[str, Any]:
        return curves_of(question_of(body), alternatives=body.alternatives)

    return to_json(await computed(request, work, lock))


def question_of(body: CurvesBody) -> Question:
    """`InputError` for what cannot be modelled."""
    if (body.hardware is None) == (body.machine is None):
        raise InputError("say hardware or machine, one of them", param="hardware")
    for name in body.choices.keys() - CHOICES:
        raise InputError(f"choices.{name} is not known; there are {', '.join(CHOICES)}", param=name)
    choices = Choices(**body.choices)
    hardware = body.hardware or named(body.machine or "", choices)
    setting = Setup(settled(choices, hardware.device), hardware.device, body.packed)
    return Question(
        name=body.name or body.shape or "this model",
        spec=spec_of(body),
        hardware=hardware,
        setting=setting.changed(body.switches) if body.switches else setting,
        scope=body.scope,
        batch=body.batch,
        num_outputs=body.num_outputs,
        lengths=tuple(body.lengths),
    )


def named(machine: str, choices: Choices) -> Hardware:
    """The machine of a data sheet."""
    sheet = sheet_of(machine)
    if sheet is None:
        raise InputError(
            f"there is no data sheet of {machine!r} here.{suggestion(machine, PEAKS)} "
            "/explorer/v1/known lists them",
            param="machine",
        )
    return spec_hardware(sheet, choices.activation_bytes)


def spec_of(body: CurvesBody) -> ModelSpec:
    """The model's shape, in one of three ways."""
    ways = [body.spec, body.shape, body.config]
    if sum(way is not None for way in ways) != 1:
        raise InputError("say spec, shape or config, one of them", param="spec")
    if body.config is not None:
        try:
            return spec_from_config(body.config, {}, Path("config.json"))
        except ModelError as error:
            raise InputError(str(error), param="config") from error
    return body.spec or shape_named(body.shape or "")


async def known(request: HttpRequest) -> Response:
    """Machines and models that curves can be asked of by name."""
    machines = [
        {"name": name, "title": peak.title, "device": peak.device} for name, peak in PEAKS.items()
    ]
    return to_json({"machines": machines, "shapes": list(SHAPES)})


async def computed(
    request: HttpRequest, work: Callable[[], T], lock: asyncio.Lock | None = None
) -> T:
    """Seconds of arithmetic, in a thread while tokens keep flowing; one at a time, lest many leave
    the others no turn. It cannot be broken off: what nobody waits for any more ends by itself."""
    lock = lock or Served.of(request).computing
    await until_disconnect(request.receive, lock.acquire())
    task = asyncio.ensure_future(in_daemon(work))

    def free(task: asyncio.Future[T]) -> None:
        lock.release()
        task.exception()  # asked for, in case nobody is there any more

    task.add_done_callback(free)
    return await until_disconnect(request.receive, asyncio.shield(task))


async def sent_run(request: HttpRequest) -> runfile.Record:
    """The run file in a request's body, of a size that is worked through in seconds."""

    def work(value: dict[str, Any]) -> runfile.Record:
        body = parse(value, RunBody)
        runfile.validate(body.run, "the run")
        cells, num_layers = body.run["cells"], body.run["model"]["spec"]["num_layers"]
        for what, number, most in (
            ("cells", len(cells), MAX_CELLS),
            ("blocks", len(cells[0]["wall_ns"]), MAX_BLOCKS),
            ("layers", num_layers, MAX_LAYERS),
        ):
            if number > most:
                raise InputError(
                    f"the run has {number:,} {what}; at most {most:,} are worked on here: use the "
                    "command line",
                    param="run",
                )
        return body.run

    return await Served.of(request).read(request, work)
