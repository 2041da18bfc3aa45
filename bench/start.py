#!/usr/bin/env python
"""Where the time goes from `pellucid serve` to ready.

    python bench/start.py [--json FILE] [--runs 3] [-- options of pellucid serve]

First the imports and the GPU's context, each in fresh processes without a server: `context alone`
is begun when torch has been imported, `context early` when the process begins, as `serve` does, and
is what is left to wait for. Then the server itself: cold, with an empty cache of compiled kernels,
and warm; `health` is from the launch to the first 200 of /health, `ready` what the server says, and
the rest its own account. By default Qwen3-0.6B's shape with random weights.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

import environment as shared

MODEL = Path(__file__).parent / "models" / "qwen3-0.6b"
DEFAULT = ("--model", str(MODEL), "--load-format", "dummy", "--context-length", "4096")
PROBE = """
import sys, time
from pellucid.runner.early import begin_context, import_kernels
from pellucid.stages import Laps
early = begin_context() if sys.argv[1] == "early" else None
laps = Laps()
import torch
laps.lap("import torch")
if torch.cuda.device_count():
    if not early:
        import triton
        laps.lap("import triton")
    else:
        import pellucid.engine
        import_kernels()
        laps.lap("import engine and kernels")
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    laps.lap("context " + sys.argv[1])
else:
    import pellucid.engine
    laps.lap("import engine")
print(*(f"{name}={seconds}" for name, seconds in laps.seconds.items()), sep=";")
"""


def probe(how: str) -> dict[str, float]:
    """Seconds of each part, in a process without a server."""
    command = [sys.executable, "-c", PROBE, how]
    words = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    parts = (part.split("=") for part in words.strip().split(";"))
    return {name: float(seconds) for name, seconds in parts}


def serve(options: Sequence[str], variables: Mapping[str, str]) -> dict[str, float]:
    """Seconds of each part of a server's start."""
    begin = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "pellucid", "serve", "--port", "0", *options],
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    found: dict[str, float] = {}
    said = ""
    for line in server.stderr:
        said += line
        if line.startswith("  start  "):
            parts = re.findall(r"([a-z][a-z ]*) ([\d.]+) s", line.removeprefix("  start  "))
            found |= {name: float(seconds) for name, seconds in parts}
        if ready := re.search(r"at (http://\S+)/v1.*ready in ([\d.]+) s", line):
            httpx.get(f"{ready[1]}/health", timeout=60).raise_for_status()
            found |= {"ready": float(ready[2]), "health": time.perf_counter() - begin}
            break
    else:
        sys.exit(f"bench/start.py: the server did not start:\n{said}")
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=30)
    return found


def table(title: str, runs: Sequence[Mapping[str, float]]) -> None:
    """Medians, and the samples."""
    print(title)
    for name in dict.fromkeys(name for run in runs for name in run):
        samples = [run.get(name, 0.0) for run in runs]
        print(f"  {name:28}{statistics.median(samples):7.2f} s   {[round(s, 2) for s in samples]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("options", nargs="*", help="after --, instead of the default ones")
    args = parser.parse_args()
    options = args.options or DEFAULT
    found: dict[str, list[dict[str, float]]] = {}
    for how in ("alone", "early"):
        found[f"no server, context {how}"] = [probe(how) for _ in range(args.runs)]
    with tempfile.TemporaryDirectory() as cache:
        variables = {"TRITON_CACHE_DIR": cache}
        found["server, cold"] = [serve(options, variables)]
        found["server, warm"] = [serve(options, variables) for _ in range(args.runs)]
    for title, runs in found.items():
        table(title, runs)
    if args.json:
        shared.write_json(args.json, {"environment": shared.environment(), "runs": found})


if __name__ == "__main__":
    main()
