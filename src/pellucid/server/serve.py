"""`pellucid serve` from the first line to the last: bind, load, answer, stop.

The port is bound before anything is loaded, so that one that is in use is known at once; clients
that come during the load wait in the socket's queue. The engine's process starts (and imports
torch) while this one opens the checkpoint for its tokenizer; opening also downloads what is
missing, so the engine is told what to load only after that, and nothing is fetched twice.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import uvicorn

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.server import connections
from pellucid.server.app import build_app
from pellucid.server.link import EngineDown
from pellucid.server.process import WORKER, EngineProcess
from pellucid.server.protocol import SPARE
from pellucid.server.served import MAX_BODY, Served
from pellucid.server.spare import NoSpare, Spare
from pellucid.server.supervisor import Supervisor
from pellucid.server.threads import in_daemon

if TYPE_CHECKING:
    from pellucid.model.checkpoint import Checkpoint

BACKLOG = 2048
IDLE_CONNECTION_S = 75
GRACE_S = 3
INTERRUPTED = 130
"""The exit status of a server that was stopped before it served."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Everything about the server that is not about the engine."""

    host: str = "127.0.0.1"
    port: int = 8000
    model_names: Sequence[str] = ()
    """What clients call the model; empty: its own name."""
    api_keys: Sequence[str] = ()
    max_body: int = MAX_BODY
    allowed_origins: Sequence[str] = ()
    """Whose pages may call from a browser, as https://host:port; "*" means any."""
    drop_tools: bool = False
    """Answer chats that bring tools without them, instead of refusing."""
    spare: bool = True
    """Keep a process that takes over from an engine's that dies; see `spare.py`."""
    sampling_defaults: Literal["model", "openai"] = "model"
    """What sampling fields come to that are not sent: the model's (model) or OpenAI's (openai)."""


def serve(config: EngineConfig, options: ServeOptions) -> int:
    """Serve until a signal; the exit code. Raises `InputError` for what the user can mend."""
    began = time.perf_counter()
    with bind(options.host, options.port) as sock:
        return asyncio.run(_serve(config, options, sock, began))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"unknown host {host!r}: {error}; see --host", param="host") from error
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection: a token must not wait for the next to share its packet.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            why = f"port {port} on {host} is in use; choose another with --port, or 0 for any"
        else:
            why = f"cannot listen on {host} port {port}: {error.strerror}"
        raise InputError(why, param="port") from error
    return sock


async def _serve(
    config: EngineConfig, options: ServeOptions, sock: socket.socket, began: float
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
    engine = supervisor(config, options.spare)
    await engine.spawn()
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
        _announce(served, sock, time.perf_counter() - began)
        server = _Server(_uvicorn_config(served, options))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        await asyncio.wait({stop, serving}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        engine.fail("the server is shutting down")
        await serving
        return 0
    finally:
        stop.cancel()
        await engine.stop()


def supervisor(config: EngineConfig, spare: bool, worker: Sequence[str] = WORKER) -> Supervisor:
    """Of an engine in a process that runs the command `worker`."""
    waiting = Spare(lambda: EngineProcess.spawn([*worker, SPARE])) if spare else NoSpare()
    return Supervisor(lambda: EngineProcess.spawn(worker), config, spare=waiting)


async def _load(engine: Supervisor, config: EngineConfig, options: ServeOptions) -> Served:
    checkpoint = await in_daemon(lambda: _open(config))
    await engine.load()
    return Served(
        engine=engine,
        tokenizer=checkpoint.tokenizer,
        names=list(options.model_names) or [checkpoint.name],
        spec=checkpoint.spec,
        config=config,
        max_body=options.max_body,
        drop_tools=options.drop_tools,
        sampling_defaults=(
            checkpoint.sampling_defaults if options.sampling_defaults == "model" else {}
        ),
    )


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


def _announce(served: Served, sock: socket.socket, seconds: float) -> None:
    """Memory, then where people and programs find the server."""
    for line in served.info.ledger:
        print(f"  {line}", file=sys.stderr)
    url, names = url_of(*sock.getsockname()[:2]), ", ".join(served.names)
    print(
        f"pellucid serves {names} at {url}/v1, its page at {url} (ready in {seconds:.1f} s)",
        file=sys.stderr,
        flush=True,
    )


def url_of(host: str, port: int) -> str:
    """An address that a browser on this machine can open: "all interfaces" is none."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
