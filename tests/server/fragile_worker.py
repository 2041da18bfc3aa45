"""The real worker and engine, with an attention kernel that fails at a context of 25 tokens.

Arguments: the model's folder, the socket.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.server.jobs import measure_engine
from pellucid.server.worker import die_with_parent, run

BAD_CONTEXT = 25


class Fragile:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def prepare(self, rows: Any, device: Any) -> Any:
        if any(row.context == BAD_CONTEXT for row in rows):
            raise RuntimeError("an illegal instruction was met")
        return self._inner.prepare(rows, device)

    def attend(self, *args: Any) -> Any:
        return self._inner.attend(*args)


def make_engine(config: EngineConfig) -> Engine:
    options = {"load_format": "dummy", "dtype": "float32", "device": "cpu", "memory": 0.1}
    engine = Engine(EngineConfig.from_kwargs(model=sys.argv[1], **options))
    way: Any = engine.runner._ways[0]
    way._attention = Fragile(way._attention)
    return engine


if __name__ == "__main__":
    die_with_parent(sys.stdin.fileno()).set()
    sys.exit(run(make_engine, socket.socket(fileno=int(sys.argv[2])), measure_engine))
