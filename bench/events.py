#!/usr/bin/env python
"""What it costs to write down what each step does: with nobody watching, and with one who does.

    python bench/events.py [--pairs 9] [--json bench/results/events-cpu.json]

SmolLM2, eight answers at a time. Three questions, each with its own measure:

* `off`: what the empty calls of `NullTrace` cost. That is far below the noise of a clock around a
  step, so they are counted over a stretch, timed by themselves, and divided by the steps' time.
* `engine`: throughput of one engine that writes down and encodes each step's event, over the same
  engine's with `NullTrace`, in pairs of stretches that follow each other in turns (AB BA AB ...).
  `control` is the same with both stretches alike: what the machine makes of nothing.
* `server`: the same with a real server, eight streaming clients, and one more that reads
  `/explorer/v1/events`; its reader takes time from the same cores.

Every ratio is of tokens a second, with over without; 0.99 is 1 % less. Medians over pairs.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

import environment as shared
from first_contact import URL, start, stop
from pellucid import SamplingParams
from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.process import own_process
from pellucid.request import Request
from pellucid.server.protocol import Traced, frame
from pellucid.trace import NullTrace

MODEL, ANSWERS, PROMPT, ANSWER = "smollm2", 8, 64, 400
STEPS = 40
"""Of a stretch of the engine: about a second."""
STRETCH_S, LINGER_S = 4.0, 2.3
"""Of the server: a stretch, and how long the engine goes on when the watcher has left."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    record = {"model": MODEL, "answers": ANSWERS, "load_before": load, **in_engine(args.pairs)}
    record["server"] = in_server(args.pairs)
    off, ns = record["off"]["share"], record["off"]["ns_per_step"]
    print(f"off      {100 * off:.4f} % of a step: {ns:.0f} ns of {record['off']['step_ms']:.1f} ms")
    for name in ("control", "engine", "server"):
        found = record[name]
        print(f"{name:8} {found['median']:.4f}  ({found['min']:.4f} to {found['max']:.4f})")
    if args.json:
        shared.write_json(args.json, {"environment": shared.environment(), **record})


def pairs(num: int, without: Callable[[], float], with_it: Callable[[], float]) -> dict[str, Any]:
    """With over without, side by side, each first in turns."""
    ratios, rates = [], []
    for number in range(num):
        if number % 2:
            b, a = with_it(), without()
        else:
            a, b = without(), with_it()
        ratios.append(b / a)
        rates.append(a)
    return shared.summary(ratios) | {"tokens_per_s_without": shared.median(rates)}


class Busy:
    """An engine with eight answers in the making, for ever."""

    def __init__(self) -> None:
        self.engine = Engine(EngineConfig(model=MODEL))
        self.num_requests = 0
        for _ in range(20):
            self.step()

    def step(self) -> int:
        """Tokens that came of it."""
        while self.engine.stats().num_running + self.engine.stats().num_waiting < ANSWERS:
            self.num_requests += 1
            seed = self.num_requests
            self.engine.add(
                Request(
                    id=f"{seed}",
                    prompt_token_ids=[7 + (13 * n + seed) % 1009 for n in range(PROMPT)],
                    # of different lengths, so that they end one by one
                    params=SamplingParams(
                        temperature=0.0, ignore_eos=True, max_tokens=ANSWER + 37 * (seed % 8)
                    ),
                )
            )
        return sum(len(output.token_ids) for output in self.engine.step())

    def rate(self, after: Callable[[], None]) -> float:
        """Tokens a second over a stretch, `after` called behind each step."""
        tokens, begin = 0, time.perf_counter()
        for _ in range(STEPS):
            tokens += self.step()
            after()
        return tokens / (time.perf_counter() - begin)


def in_engine(num: int) -> dict[str, Any]:
    busy = Busy()
    engine, num_bytes, num_events = busy.engine, 0, 0

    def tell() -> None:
        nonlocal num_bytes, num_events
        events, dropped = engine.trace.take()
        if events:
            num_bytes += len(frame(Traced(list(events), dropped)))
            num_events += len(events)

    def unwatched() -> float:
        engine.unwatch()
        return busy.rate(tell)

    def watched() -> float:
        engine.watch()
        return busy.rate(tell)

    found = {"control": pairs(num, unwatched, unwatched), "engine": pairs(num, unwatched, watched)}
    found["engine"]["bytes_per_event"] = num_bytes / num_events
    return {"off": off(busy), **found}


class Counting(NullTrace):
    """How often the scheduler says something."""

    calls = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("queued", "admitted", "waits", "planned", "landed", "forgot", "left", "close"):
            Counting.calls += 1
        return super().__getattribute__(name)


def off(busy: Busy) -> dict[str, Any]:
    """The empty calls of a step, each as long as the longest of them takes, over the step."""
    Counting.calls = 0
    busy.engine.scheduler.trace = Counting()
    busy.rate(lambda: None)
    calls = Counting.calls / STEPS
    busy.engine.unwatch()
    step_s = []
    for _ in range(5):
        begin = time.perf_counter()
        busy.rate(lambda: None)
        step_s.append((time.perf_counter() - begin) / STEPS)
    trace, repeats = NullTrace(), 100_000
    begin = time.perf_counter()
    for _ in range(repeats):
        trace.landed(None, None, None)  # type: ignore[arg-type]
    call_s = (time.perf_counter() - begin) / repeats
    step = shared.median(step_s)
    return {
        "calls_per_step": calls,
        "ns_per_step": 1e9 * calls * call_s,
        "step_ms": 1e3 * step,
        "share": calls * call_s / step,
    }


def in_server(num: int) -> dict[str, Any]:
    server, _ = start(("--model", MODEL))
    stopping = threading.Event()
    clients = [threading.Thread(target=ask, args=(n, stopping)) for n in range(ANSWERS)]
    try:
        with httpx.Client(base_url=URL, timeout=120) as http:
            for client in clients:
                client.start()
            time.sleep(STRETCH_S)

            def unwatched() -> float:
                time.sleep(LINGER_S)
                return rate(http)

            def watched() -> float:
                with Watching():
                    return rate(http)

            return pairs(num, unwatched, watched)
    finally:
        stopping.set()
        for client in clients:
            client.join()
        stop(server)


def rate(http: httpx.Client) -> float:
    """Tokens a second that the engine puts out."""
    time.sleep(0.3)
    begin, before = time.perf_counter(), num_tokens(http)
    time.sleep(STRETCH_S)
    after = num_tokens(http)
    return (after - before) / (time.perf_counter() - begin)


def num_tokens(http: httpx.Client) -> int:
    return int(http.get("/health").json()["num_output_tokens"])


def ask(number: int, stopping: threading.Event) -> None:
    """A client that streams one answer after the other."""
    body = {"prompt": [7 + (13 * n + number) % 1009 for n in range(PROMPT)], "temperature": 0.0}
    body |= {"ignore_eos": True, "stream": True, "max_tokens": ANSWER + 37 * number}
    while not stopping.is_set():
        with httpx.stream("POST", f"{URL}/v1/completions", json=body, timeout=120) as response:
            for _ in response.iter_raw():
                if stopping.is_set():
                    return


class Watching:
    """One who reads the events, in a `with`."""

    def __enter__(self) -> None:
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    def _read(self) -> None:
        with httpx.stream("GET", f"{URL}/explorer/v1/events", timeout=120) as response:
            for _ in response.iter_raw():
                if self._leaving.is_set():
                    return


if __name__ == "__main__":
    own_process()
    main()
