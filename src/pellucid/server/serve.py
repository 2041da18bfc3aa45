"""`pellucid serve` once the port is taken and the engine's process starts: load, answer, stop.

Both are the work of `launch.py`. While the engine's process imports torch, this one opens the
checkpoint for its tokenizer; opening also downloads what is missing, so the engine is told what to
load only after that, and nothing is fetched twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import uvicorn

from pellucid.config import EngineConfig
from pellucid.server import connections
from pellucid.server.app import build_app
from pellucid.server.launch import NewProcess
from pellucid.server.link import EngineDown
from pellucid.server.process import EngineProcess
from pellucid.server.protocol import SPARE
from pellucid.server.runs import Runs, state_folder
from pellucid.server.served import MAX_BODY, Served
from pellucid.server.spare import NoSpare, Spare
from pellucid.server.supervisor import Supervisor
from pellucid.server.threads import in_daemon

if TYPE_CHECKING:
    from pellucid.model.checkpoint import Checkpoint

IDLE_CONNECTION_S = 75
GRACE_S = 3
SHORT_S = 0.05
"""Parts of the start that take less are not listed."""
INTERRUPTED = 130
"""The exit status of a server that was stopped before it served."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Everything about the server that is not about the engine."""

    model_names: Sequence[str] = ()
    """What clients call the model; empty: its own name."""
    api_keys: Sequence[str] = ()
    max_body: int = MAX_BODY
    allowed_origins: Sequence[str] = ()
    """Whose pages may call from a browser, as https://host:port; "*" means any."""
    drop_tools: bool = False
    fixed_switches: bool = False
    auto_measure: bool = True
    """Answer chats that bring tools without them, instead of refusing."""
    spare: bool = True
    """Keep a process that takes over from an engine's that dies; see `spare.py`."""
    sampling_defaults: Literal["model", "openai"] = "model"
    """What sampling fields come to that are not sent: the model's (model) or OpenAI's (openai)."""


def serve(
    config: EngineConfig,
    options: ServeOptions,
    sock: socket.socket,
    first: NewProcess,
    worker: Sequence[str],
) -> int:
    """Serve on the listening `sock` until a signal; the exit code. Raises `InputError` for what the
    user can mend. `first` is the engine's process, and `worker` the command for others."""
    return asyncio.run(_serve(config, options, sock, first, worker))


async def _serve(
    config: EngineConfig,
    options: ServeOptions,
    sock: socket.socket,
    first: NewProcess,
    worker: Sequence[str],
) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():  # the second one; the engine's process ends with this one
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    stop = asyncio.create_task(stopping.wait())
    spawn = partial(EngineProcess.spawn, worker)
    spare = Spare(partial(EngineProcess.spawn, [*worker, SPARE])) if options.spare else NoSpare()
    engine = Supervisor(spawn, config, spare=spare)
    await engine.spawn(await EngineProcess.adopt(first))
    try:
        loading = asyncio.create_task(_load(engine, config, options))
        await asyncio.wait({stop, loading}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            loading.cancel()
            print("interrupted before the model was loaded", file=sys.stderr)
            return INTERRUPTED
        try:
            served = loading.result()
        except EngineDown as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        parts = (engine.link.imports_s or {}) | engine.info.start_s
        _announce(served, sock, time.perf_counter() - first.began, parts)
        looking = asyncio.ensure_future(in_daemon(lambda: _look_at_first(served)))
        server = _Server(_uvicorn_config(served, options))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        await asyncio.wait({stop, serving}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        looking.cancel()
        engine.fail("the server is shutting down")
        await serving
        return 0
    finally:
        stop.cancel()
        await engine.stop()


async def _load(engine: Supervisor, config: EngineConfig, options: ServeOptions) -> Served:
    checkpoint = await in_daemon(lambda: _open(config))
    await engine.load()
    return Served(
        engine=engine,
        tokenizer=checkpoint.tokenizer,
        names=list(options.model_names) or [checkpoint.name],
        spec=checkpoint.spec,
        runs=Runs(state_folder() / "runs"),
        max_body=options.max_body,
        drop_tools=options.drop_tools,
        fixed_switches=options.fixed_switches,
        measures_itself=options.auto_measure,
        sampling_defaults=(
            checkpoint.sampling_defaults if options.sampling_defaults == "model" else {}
        ),
    )


def _look_at_first(served: Served) -> None:
    """What the page shows first is worked out before anybody asks for it."""
    info = served.info
    for known in served.runs.best_first(info.device_name, info.model, info.device != "cpu")[:1]:
        served.runs.answers(known)


def _open(config: EngineConfig) -> Checkpoint:
    """The model's name, shape and tokenizer; fetches what is missing."""
    # Imported here: it takes its time, and the port and the engine's process come first.
    from pellucid.model.checkpoint import open_checkpoint

    return open_checkpoint(config)


class _Server(uvicorn.Server):
    """Signals are ours: one handler from the first line of the load to the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(served: Served, options: ServeOptions) -> uvicorn.Config:
    connections.prepare()
    return uvicorn.Config(
        build_app(served, options.api_keys, options.allowed_origins),
        http=connections.PromptProtocol,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        # Longer than clients keep theirs, so that none meets a connection that is just closing.
        timeout_keep_alive=IDLE_CONNECTION_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def _announce(
    served: Served, sock: socket.socket, seconds: float, parts: Mapping[str, float]
) -> None:
    """Memory and time, then where people and programs find the server."""
    for line in (*served.info.ledger, start_line(seconds, parts)):
        print(f"  {line}", file=sys.stderr)
    url, names = url_of(*sock.getsockname()[:2]), ", ".join(served.names)
    print(
        f"pellucid serves {names} at {url}/v1, its page at {url} (ready in {seconds:.1f} s)",
        file=sys.stderr,
        flush=True,
    )


def start_line(seconds: float, parts: Mapping[str, float]) -> str:
    """What the parts of the start took, to read; short ones go to what belongs to no part."""
    long = {name: took for name, took in parts.items() if took >= SHORT_S}
    long["other"] = seconds - sum(long.values())
    return "start  " + ", ".join(f"{name} {took:.2f} s" for name, took in long.items())


def url_of(host: str, port: int) -> str:
    """An address that a browser on this machine can open: "all interfaces" is none."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
