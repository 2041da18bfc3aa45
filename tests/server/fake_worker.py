"""The real worker around a fake engine, as a program."""

from __future__ import annotations

import socket
import sys
import time

from fake_engine import FakeEngine, fake_measure

from pellucid.errors import ModelError
from pellucid.server.worker import die_with_parent, run


def make_engine(config: object) -> FakeEngine:
    if getattr(config, "model", "") == "broken":
        raise ModelError("broken.gguf is truncated; fetch it again")
    if getattr(config, "model", "") == "large":
        print("loading", file=sys.stderr, flush=True)
        time.sleep(30)
    return FakeEngine()


if __name__ == "__main__":
    die_with_parent(sys.stdin.fileno()).set()
    sys.exit(run(make_engine, socket.socket(fileno=int(sys.argv[-1])), fake_measure))
