"""Frames and records, whatever the borders of the reads are."""

from __future__ import annotations

import socket
import threading

import msgspec
import pytest
from fake_engine import FakeEngine, fake_measure
from hypothesis import given
from hypothesis import strategies as st

from pellucid.config import EngineConfig
from pellucid.request import Output, Request, SamplingParams, TokenLogprob
from pellucid.server.protocol import (
    Abort,
    Add,
    Command,
    Fatal,
    GetStats,
    Imported,
    Outputs,
    Start,
    Unframer,
    decode_command,
    decode_event,
    frame,
)
from pellucid.server.worker import run

commands = st.one_of(
    st.builds(Abort, st.text(max_size=20)),
    st.just(GetStats()),
    st.builds(
        lambda ids, stop, bias: Add(
            Request(
                id="r",
                prompt_token_ids=ids,
                params=SamplingParams(stop=tuple(stop), logit_bias=bias, seed=3),
            )
        ),
        st.lists(st.integers(0, 2**31), max_size=300),
        st.lists(st.text(min_size=1), max_size=3),
        st.dictionaries(st.integers(0, 10**6), st.floats(-100, 100), max_size=3),
    ),
)


@given(st.lists(commands, max_size=6), st.data())
def test_any_split_gives_the_same_records(records: list[Command], data: st.DataObject) -> None:
    stream = b"".join(map(frame, records))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    unframer = Unframer()
    got = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += [decode_command(body) for body in unframer.feed(stream[begin:end])]
    assert got == records


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_floats_are_exact(chosen: float, other: float) -> None:
    output = Output(request_id="r", logprobs=[TokenLogprob(1, chosen, [(1, chosen), (2, other)])])
    event = decode_event(frame(Outputs([output]))[4:])
    assert isinstance(event, Outputs) and event.outputs == [output]


def test_nothing_but_known_records_is_decoded() -> None:
    for value in ({"type": "Exec", "code": "x"}, {"type": "Ready"}, 5, "x"):
        with pytest.raises(msgspec.ValidationError):
            decode_command(msgspec.msgpack.encode(value))


def test_first_command_must_be_start() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame(GetStats()))
        codes: list[int] = []
        worker = threading.Thread(
            target=lambda: codes.append(run(lambda config: FakeEngine(), theirs, fake_measure))
        )
        worker.start()
        worker.join(5)
        first, event = map(decode_event, Unframer().feed(ours.recv(4096)))
        assert first == Imported({})
        assert codes == [1]
        assert isinstance(event, Fatal) and "expected Start" in event.message


def test_hangup_ends_the_worker_in_peace() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(frame(Start(EngineConfig())))
        ours.close()
        assert run(lambda config: FakeEngine(), theirs, fake_measure) == 0
