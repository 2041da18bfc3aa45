"""A small soak against the fake engine: the same client and checks as `bench/soak.py`."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import psutil

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec and spec.loader
    module = sys.modules["soak"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_small_soak(start: Any) -> None:
    soak = load()
    with start() as server:
        processes = [psutil.Process(os.getpid()), psutil.Process(server.pid)]
        result = asyncio.run(
            soak.soak(server.url, processes, num_requests=60, concurrency=16, max_tokens=30)
        )
        assert {sample["kind"] for sample in result["samples"]} == set(soak.KINDS)
        # This test's own process is client and server at once: its memory says nothing.
        result["rss_growth"] = result["rss_growth"][1:]
        assert soak.faults(result) == []
        assert server.served.engine.link.submissions == {}


def test_faults_are_seen() -> None:
    soak = load()
    bad = {"kind": "plain", "outcome": "bad", "detail": "500"}
    result = {
        "warmup_samples": [],
        "samples": [bad],
        "health_after": {"num_running": 0, "num_waiting": 1, "num_blocks_used": 3},
        "rss_growth": [0.01, 0.06],
    }
    assert len(soak.faults(result)) == 4
