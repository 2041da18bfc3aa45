"""What the HTTP process and the engine's process say to each other.

Problem: two processes need to exchange requests and tokens, and nothing that arrives may be able to
run code. Idea: plain records, encoded as msgpack with a tag for their kind; a frame is four bytes
of length (big-endian), then the record. A socket pair carries the frames in order, so that no
sequence numbers are needed, and its end of file is the news that the other side is gone.

Trade-off: encoding costs a few microseconds for each record. One `Outputs` record carries the
tokens of a whole step, so the cost is per step and not per sequence.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pellucid.config import EngineConfig
from pellucid.events import PoolState, StepEvent
from pellucid.request import EngineInfo, EngineStats, Output, Request

SPARE = "spare"
"""On the command line of a process that will wait: nobody is in a hurry for its imports."""

MEASURING = (
    "a measurement is running, and it measures the switches as they are: try again when it has "
    "ended, or stop it"
)
"""Why a switch is not changed now."""

ENGAGED = "a measurement is running, and has the engine to itself: try again when it has ended"
"""Why nothing else is looked at now."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """First of all: load this. Answered by `Ready` or `Fatal`."""

    config: EngineConfig


class Add(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Accepted` or `Refused`; then `Outputs` hold its tokens."""

    request: Request


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Nobody wants the rest. Not answered; outputs on their way may still arrive."""

    request_id: str


class GetStats(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Snapshot`, in the order of asking."""


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Time the stages of this very engine. Answered by `Progress`, at last `Measured`; or by
    `Refused`. `Abort` of its id ends it."""

    job_id: str
    settings: dict[str, Any]
    """Of `explore.cells.Settings`."""
    force: bool = False
    """Even while answers are being made, which then wait."""
    gives_way: bool = False
    """Whatever else is asked of the engine ends it at once, with the blocks that are whole."""


class Switch(msgspec.Struct, frozen=True, tag=True):
    """Go on with other switches. Answered by `Switched`; or by `Refused`, and then nothing has
    changed."""

    job_id: str
    choices: dict[str, str]
    """Switch → value."""


class Watch(msgspec.Struct, frozen=True, tag=True):
    """Tell what every step does from here on. Answered by `Watched`, then `Traced` after each step;
    a measurement ends it by `Unwatched`."""


class Unwatch(msgspec.Struct, frozen=True, tag=True):
    """Nobody watches any more. Not answered; events on their way may still arrive."""


class ShowAttention(msgspec.Struct, frozen=True, tag=True):
    """What the heads look at in a text, by a pass of its own between two steps. Answered by
    `AttentionShown`; or by `Refused`."""

    job_id: str
    wish: dict[str, Any]
    """Of `explore.attention.AttentionWish`."""


class Imported(msgspec.Struct, frozen=True, tag=True):
    """The first event: what takes long to import is imported, and `Start` will load at once."""

    seconds: dict[str, float]
    """What each part of it took."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    info: EngineInfo


class Accepted(msgspec.Struct, frozen=True, tag=True):
    request_id: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The request is at fault; the fields of `InputError`."""

    request_id: str
    message: str
    param: str | None = None
    code: str | None = None


class Outputs(msgspec.Struct, frozen=True, tag=True):
    """What one step made."""

    outputs: list[Output]


class Snapshot(msgspec.Struct, frozen=True, tag=True):
    stats: EngineStats


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far a measurement is."""

    job_id: str
    doing: str
    done: float
    total: float
    note: str
    """A line to read, if there is something new to say."""
    cell: dict[str, Any] | None = None
    """What has been measured of a cell so far, if something new has."""


class Measured(msgspec.Struct, frozen=True, tag=True):
    """The end of a measurement: its run file."""

    job_id: str
    run: dict[str, Any]
    other: dict[str, Any] | None = None
    """Of the other switches, if two settings were measured in turns."""


class Switched(msgspec.Struct, frozen=True, tag=True):
    """The engine has become this."""

    job_id: str
    info: EngineInfo


class Watched(msgspec.Struct, frozen=True, tag=True):
    """The state that the events from here on go out from."""

    state: PoolState


class Traced(msgspec.Struct, frozen=True, tag=True):
    """What the last steps did; one event unless the engine was kept from sending."""

    events: list[StepEvent]
    dropped: int = 0
    """Earlier ones that were lost."""


class Unwatched(msgspec.Struct, frozen=True, tag=True):
    """No events from here on: a measurement has the engine to itself."""


class AttentionShown(msgspec.Struct, frozen=True, tag=True):
    """The view that was asked for."""

    job_id: str
    view: dict[str, Any]


class Fatal(msgspec.Struct, frozen=True, tag=True):
    """The engine's last words."""

    message: str
    bad_input: bool
    """The configuration or the checkpoint is at fault, not the program."""


Command = Start | Add | Abort | GetStats | Measure | Switch | Watch | Unwatch | ShowAttention
Event = (
    Imported
    | Ready
    | Accepted
    | Refused
    | Outputs
    | Snapshot
    | Progress
    | Measured
    | Switched
    | Watched
    | Traced
    | Unwatched
    | AttentionShown
    | Fatal
)

LENGTH_BYTES = 4

_encoder = msgspec.msgpack.Encoder()
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_event = msgspec.msgpack.Decoder(Event).decode


def frame(record: Command | Event) -> bytes:
    """The record as it travels."""
    body = _encoder.encode(record)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class Unframer:
    """Bytes as they arrive in, bodies of whole frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes; what is left waits for more."""
        buffer = self._buffer
        buffer += data
        bodies = []
        start = 0
        while len(buffer) - start >= LENGTH_BYTES:
            end = start + LENGTH_BYTES + int.from_bytes(buffer[start : start + LENGTH_BYTES], "big")
            if len(buffer) < end:
                break
            bodies.append(bytes(buffer[start + LENGTH_BYTES : end]))
            start = end
        del buffer[:start]
        return bodies
