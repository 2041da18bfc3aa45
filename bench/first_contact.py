#!/usr/bin/env python
"""What the first clients of a fresh server meet: time to the first token, and between tokens.

    python bench/first_contact.py [--json bench/results/first-contact-h200.json]

Qwen3-0.6B's shape with random weights. A server is started and stopped once, so that kernels are
compiled; then again, and the moment it is ready `CLIENTS` clients stream an answer each, all at
once: prompts of 256 tokens, answers of 128. `ready` is from the process's launch to the first 200
of /health. TTFT is from sending a request to its first token; TPOT is an answer's time behind its
first token, per token. With --runs, the second start and its clients are repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

import environment as shared

MODEL = str(Path(__file__).parent / "models" / "qwen3-0.6b")
CLIENTS, PROMPT, ANSWER = 16, 256, 128
PORT = 8437
URL = f"http://127.0.0.1:{PORT}"
OPTIONS = ("--model", MODEL, "--load-format", "dummy", "--context-length", "4096")


def start(options: Sequence[str] = OPTIONS) -> tuple[subprocess.Popen[bytes], float]:
    """A server that is ready, and the seconds that it took."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "pellucid", "serve", *options, "--port", str(PORT)]
    server = subprocess.Popen(command)
    while server.poll() is None:
        try:
            if httpx.get(f"{URL}/health", timeout=60).status_code == 200:
                return server, time.perf_counter() - begin
        except httpx.TransportError:
            time.sleep(0.01)
    sys.exit("bench/first_contact.py: the server did not start")


def stop(server: subprocess.Popen[bytes]) -> None:
    os.kill(server.pid, signal.SIGINT)
    server.wait(30)


async def ask(client: httpx.AsyncClient, number: int) -> tuple[float, list[float]]:
    """TTFT and the gaps between tokens, in seconds."""
    rng = random.Random(number)
    body = {
        "prompt": [rng.randrange(150_000) for _ in range(PROMPT)],
        "max_tokens": ANSWER,
        "ignore_eos": True,
        "stream": True,
        "temperature": 0.8,
        "seed": number,
    }
    begin, times = time.perf_counter(), list[float]()
    async with client.stream("POST", f"{URL}/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                choice = json.loads(line.removeprefix("data: "))["choices"][0]
                times += [time.perf_counter()] * len(choice.get("token_ids", []))
    assert len(times) == ANSWER, f"{len(times)} tokens instead of {ANSWER}"
    return times[0] - begin, [b - a for a, b in pairwise(times)]


async def ask_all() -> list[tuple[float, list[float]]]:
    async with httpx.AsyncClient(timeout=60) as client:
        return list(await asyncio.gather(*(ask(client, n) for n in range(CLIENTS))))


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def run_once() -> dict[str, Any]:
    """A fresh server and its first clients."""
    server, ready_s = start()
    try:
        answers = asyncio.run(ask_all())
    finally:
        stop(server)
    first = [ttft for ttft, _ in answers]
    per_token = [sum(gaps) / len(gaps) for _, gaps in answers]
    between = [gap for _, gaps in answers for gap in gaps]
    return {
        "ready_s": ready_s,
        "ttft_p99_ms": quantile(first, 0.99) * 1e3,
        "tpot_p50_ms": quantile(per_token, 0.5) * 1e3,
        "tpot_p99_ms": quantile(per_token, 0.99) * 1e3,
        "gap_p99_ms": quantile(between, 0.99) * 1e3,
        "samples": {"ttft_s": first, "tpot_s": per_token},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--commit", default="", help="of the sources, where git does not know")
    args = parser.parse_args()
    server, first_ready_s = start()
    stop(server)
    runs = [run_once() for _ in range(args.runs)]
    names = [name for name in runs[0] if name != "samples"]
    figures = {name: statistics.median(run[name] for run in runs) for name in names}
    print(f"first start, kernels compiled or not: {first_ready_s:.1f} s")
    for name in names:
        print(f"{name:14} {figures[name]:8.2f}   {[round(run[name], 2) for run in runs]}")
    if args.json:
        environment = shared.environment()
        environment["commit"] = args.commit or environment["commit"]
        record = {
            "environment": environment,
            "figures": figures | {"first_ready_s": first_ready_s},
            "runs": runs,
        }
        shared.write_json(args.json, record)


if __name__ == "__main__":
    main()
