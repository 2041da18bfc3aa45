"""Whose process it is: the library leaves it as it finds it, the worker and the CLI tune theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SETTINGS = """
import ctypes, gc, json, os, sys
def settings():
    import torch
    return {
        "thresholds": gc.get_threshold(),
        "collects": gc.isenabled(),
        "frozen": gc.get_freeze_count(),
        "threads": torch.get_num_threads(),
        "spin": os.environ.get("GOMP_SPINCOUNT"),
        "malloc": malloc,
    }
malloc = []
real = ctypes.CDLL
class Watched(real):
    def __getattr__(self, name):
        if name == "mallopt":
            malloc.append(name)
        return super().__getattr__(name)
ctypes.CDLL = Watched
"""


def run(code: str, *arguments: str) -> Any:
    """What `code`, a process of its own, prints as JSON."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS + code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


OPEN = """
before = settings()
from pellucid import LLM, SamplingParams
llm = LLM(sys.argv[1], load_format="dummy", device="cpu", num_blocks=8, **json.loads(sys.argv[2]))
llm.generate([[5, 6]], SamplingParams(max_tokens=2))
print(json.dumps([before, settings()]))
"""


def test_the_library_leaves_its_callers_process_alone(tiny_folder: Path) -> None:
    before, after = run(OPEN, str(tiny_folder), "{}")
    assert after == before
    assert after["frozen"] == 0 and after["spin"] is None and not after["malloc"]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_set_if_they_are_asked_for(threads: int, tiny_folder: Path) -> None:
    before, after = run(OPEN, str(tiny_folder), json.dumps({"threads": threads}))
    assert after == {**before, "threads": threads}


OWN = """
from pellucid.process import num_cores, own_process
assert "torch" not in sys.modules
own_process()
first = settings()
own_process()
print(json.dumps([first, settings(), num_cores()]))
"""


def test_a_process_of_our_own_is_tuned_once() -> None:
    first, second, cores = run(OWN)
    assert first == second
    assert first["threads"] == cores
    assert first["frozen"] > 10_000, "torch's modules"
    assert first["collects"], "again, after the imports"
    assert first["thresholds"] == [20_000, 20, 50]
    assert first["spin"] == "1000"
    assert bool(first["malloc"]) == sys.platform.startswith("linux")
