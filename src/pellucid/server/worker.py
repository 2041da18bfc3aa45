"""The engine's process: obey commands, step while there is work, sleep while there is none.

`run` is the whole life: say `Imported`, wait for `Start`, load, say `Ready`, then `serve_engine`
until the other side hangs up. Between two steps commands are drained without waiting; an idle
engine waits in `recv`, so it costs no CPU time at all. A measurement has the engine to itself: what
arrives meanwhile is held back until it ends, but for questions about the state and its own end.

The parent's death must end this process even during a load or a long step, when nobody reads the
socket. So standard input is a pipe that the parent never writes to: its end of file means that the
parent is gone, and a thread waits for that.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.events import PoolState
from pellucid.process import in_background, own_process, put_off_collection, wait_briefly
from pellucid.request import EngineInfo, EngineStats, Output, Request
from pellucid.runner.early import begin_context, import_kernels
from pellucid.server.jobs import Looker, Measurer, look_at_engine, measure_engine
from pellucid.server.protocol import (
    ENGAGED,
    MEASURING,
    SPARE,
    Abort,
    Accepted,
    Add,
    AttentionShown,
    Command,
    Event,
    Fatal,
    GetStats,
    Imported,
    Measure,
    Measured,
    Outputs,
    Progress,
    Ready,
    Refused,
    ShowAttention,
    Snapshot,
    Start,
    Switch,
    Switched,
    Traced,
    Unframer,
    Unwatch,
    Unwatched,
    Watch,
    Watched,
    decode_command,
    frame,
)
from pellucid.stages import Laps
from pellucid.trace import Trace

RECEIVE_BYTES = 1 << 16
GRACE_S = 2.0


class EngineLike(Protocol):
    """What the loop needs of an engine."""

    @property
    def info(self) -> EngineInfo: ...
    @property
    def has_work(self) -> bool: ...
    def add(self, request: Request) -> None: ...
    def abort(self, request_id: str) -> None: ...
    def step(self) -> list[Output]: ...
    def prepare(self) -> bool: ...
    def stats(self) -> EngineStats: ...
    def switch(self, **choices: Any) -> EngineInfo: ...
    @property
    def trace(self) -> Trace: ...
    def watch(self) -> PoolState: ...
    def unwatch(self) -> None: ...


class Hangup(Exception):
    """The other side closed the connection."""


class Channel:
    """The worker's end of the socket pair: commands in, events out, blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unframer = Unframer()
        self._held: list[Command] = []

    def hold(self, commands: list[Command]) -> None:
        """Have them received again, before any other but those held already."""
        self._held += commands

    def send(self, event: Event) -> None:
        try:
            self._sock.sendall(frame(event))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Hangup from error

    def receive(self, *, wait: bool) -> list[Command]:
        """All commands that are here; with `wait`, at least one."""
        commands, self._held = self._held, []
        while True:
            flags = 0 if wait and not commands else socket.MSG_DONTWAIT
            try:
                data = self._sock.recv(RECEIVE_BYTES, flags)
            except BlockingIOError:
                return commands
            except ConnectionResetError as error:
                raise Hangup from error
            if not data:
                raise Hangup
            commands += [decode_command(body) for body in self._unframer.feed(data)]


def serve_engine(
    engine: EngineLike,
    channel: Channel,
    max_waiting: int,
    measure: Measurer,
    look: Looker = look_at_engine,
) -> None:
    """Step while there is work, obey between steps; raises `Hangup` when nobody listens."""
    while True:
        # An idle engine records steps that are likely to come, one between two looks at the socket.
        commands = channel.receive(wait=not engine.has_work and not engine.prepare())
        while commands:
            command = commands.pop(0)
            if isinstance(command, Measure):
                channel.hold(commands)
                take_measure(engine, channel, command, measure)
                break
            if isinstance(command, ShowAttention):
                take_look(engine, channel, command, look)
                continue
            obey(engine, channel, command, max_waiting)
        if engine.has_work:
            outputs = engine.step()
            if outputs:
                channel.send(Outputs(outputs))
        tell(engine, channel)


def tell(engine: EngineLike, channel: Channel) -> None:
    """What the last step did, and what came after it, to whoever watches."""
    if not engine.has_work:
        engine.trace.close()  # an abort of all there was: no step comes to tell of it
    events, dropped = engine.trace.take()
    if events:
        channel.send(Traced(list(events), dropped))


def obey(engine: EngineLike, channel: Channel, command: Command, max_waiting: int) -> None:
    match command:
        case Add(request):
            try:
                check_load(engine, request, max_waiting)
                engine.add(request)
            except InputError as error:
                channel.send(Refused(request.id, str(error), error.param, error.code))
            else:
                channel.send(Accepted(request.id))
        case Abort(request_id):
            engine.abort(request_id)
        case GetStats():
            channel.send(Snapshot(engine.stats()))
        case Switch(job_id, choices):
            try:
                channel.send(Switched(job_id, engine.switch(**choices)))
            except InputError as error:
                channel.send(Refused(job_id, str(error), error.param, error.code))
        case Watch():
            channel.send(Watched(engine.watch()))
        case Unwatch():
            engine.unwatch()
        case Start() | Measure() | ShowAttention():
            raise RuntimeError(f"{type(command).__name__} came out of turn")


class Stopped(Exception):
    """Nobody wants the measurement any more."""


class GaveWay(KeyboardInterrupt):
    """Something else is wanted of the engine: like Ctrl-C, it ends a measurement early."""


OCCUPIED = (
    "the engine is busy, and a measurement would take its time from others: try again when it is "
    "idle, or set force"
)
GAVE_WAY = "the engine was wanted for something else before anything was measured"


def take_measure(engine: EngineLike, channel: Channel, command: Measure, measure: Measurer) -> None:
    """Measure from first to last, and answer for it.

    By force: the answers being made are finished first, and new requests wait. One that gives way
    ends as soon as anything else is wanted of the engine, a change of switches too.
    """
    job_id = command.job_id
    held: list[Command] = []

    def listen() -> None:
        stopped = gives_way = False
        for other in channel.receive(wait=False):
            if other == Abort(job_id):
                stopped = True  # once the others that came with it are taken care of
                continue
            if isinstance(other, GetStats):
                channel.send(Snapshot(engine.stats()))
                continue
            if command.gives_way:
                gives_way = gives_way or not isinstance(other, Abort | Unwatch)
                held.append(other)
                continue
            if isinstance(other, Switch | ShowAttention):
                why = MEASURING if isinstance(other, Switch) else ENGAGED
                channel.send(Refused(other.job_id, why, code="busy"))
                continue
            if isinstance(other, Abort):
                engine.abort(other.request_id)
            held.append(other)  # an abort too: what it aborts may be held
        if stopped:
            raise Stopped
        if gives_way:
            raise GaveWay

    def report(
        doing: str, done: float, total: float, note: str, cell: dict[str, Any] | None = None
    ) -> None:
        listen()
        channel.send(Progress(job_id, doing, done, total, note, cell))

    try:
        if engine.has_work and not command.force:
            raise InputError(OCCUPIED, param="force", code="busy")
        while engine.has_work:
            listen()
            channel.send(Outputs(engine.step()))
            tell(engine, channel)
        engine.unwatch()
        channel.send(Unwatched())
        channel.send(Measured(job_id, *measure(engine, command.settings, report, listen)))
    except InputError as error:
        channel.send(Refused(job_id, str(error), error.param, error.code))
    except GaveWay:
        channel.send(Refused(job_id, GAVE_WAY, code="gave_way"))
    except Stopped:
        pass
    finally:
        channel.hold(held)


def take_look(engine: EngineLike, channel: Channel, command: ShowAttention, look: Looker) -> None:
    """Look between two steps; whatever goes wrong, the answers being made go on."""
    job_id = command.job_id
    try:
        channel.send(AttentionShown(job_id, look(engine, command.wish)))
    except InputError as error:
        channel.send(Refused(job_id, str(error), error.param, error.code))
    except Hangup:
        raise
    except Exception as error:
        traceback.print_exception(error)
        why = f"the view could not be made: {type(error).__name__}: {error}"
        channel.send(Refused(job_id, why, code="view_failed"))


def check_load(engine: EngineLike, request: Request, max_waiting: int) -> None:
    """Refuse what would wait too long: a queue without end helps nobody."""
    num_waiting = engine.stats().num_waiting
    if num_waiting + request.params.n > max_waiting:
        raise InputError(
            f"{num_waiting} answers are waiting already, and at most {max_waiting} may: try again "
            "later",
            code="overloaded",
        )


def run(
    make_engine: Callable[[EngineConfig], EngineLike],
    sock: socket.socket,
    measure: Measurer,
    imports: Laps | None = None,
    look: Looker = look_at_engine,
) -> int:
    """Load, serve, and on failure say why; the process's exit code.

    imports: what they took, by part, for `Imported`.
    """
    channel = Channel(sock)
    try:
        channel.send(Imported(imports.seconds if imports else {}))
        first, *rest = channel.receive(wait=True)
        if not isinstance(first, Start) or rest:
            raise RuntimeError(f"expected Start, not {type(first).__name__}")
        engine = make_engine(first.config)
        channel.send(Ready(engine.info))
        serve_engine(engine, channel, first.config.max_waiting, measure, look)
    except Hangup:
        return 0
    except Exception as error:
        return report(channel, error)
    return 0


def report(channel: Channel, error: Exception) -> int:
    """Tell the parent what happened; a bug of ours leaves its traceback on standard error too."""
    bad_input = isinstance(error, InputError)
    if not bad_input:
        traceback.print_exception(error)
    name = "" if bad_input else f"{type(error).__name__}: "
    try:
        channel.send(Fatal(f"{name}{error}", bad_input))
    except Hangup:
        print("the server is gone, too", file=sys.stderr)
    return 2 if bad_input else 1


def die_with_parent(lifeline: int) -> threading.Event:
    """Leave when the parent's end of the pipe closes: in peace if the loop is quick enough.

    The loop has that much time once the event is set; before, there is nothing to end in peace.
    """
    looping = threading.Event()

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        if looping.is_set():
            time.sleep(GRACE_S)
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    return looping


def main() -> int:
    """Arguments: what the engine may run on (cpu, cuda, auto); SPARE or nothing; the descriptor of
    the socket."""
    device, *kind, descriptor = sys.argv[1:]
    looping = die_with_parent(sys.stdin.fileno())
    sock = socket.socket(fileno=int(descriptor))
    wait_briefly()
    put_off_collection()
    if kind == [SPARE]:
        in_background(lambda: import_engine(device, Laps()))
    elif device != "cpu":
        begin_context()
    imports = Laps()
    make_engine = import_engine(device, imports)
    own_process()
    looping.set()
    return run(make_engine, sock, measure_engine, imports)


def import_engine(device: str, laps: Laps) -> Callable[[EngineConfig], EngineLike]:
    """The engine's class, with all that it needs on `device`. The loop above needs none of it."""
    import_module("torch")
    laps.lap("torch")
    from pellucid.engine import Engine

    laps.lap("engine")
    if device != "cpu":
        import_kernels()
        laps.lap("gpu kernels")
    return Engine


if __name__ == "__main__":
    sys.exit(main())
