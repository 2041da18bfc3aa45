#!/usr/bin/env python
"""What it costs to write down what each step does: with nobody watching, and with one who does.

    python bench/events.py [--pairs 15] [--json bench/results/events-cpu.json]

SmolLM2, eight answers at a time. Each question has its own measure:

* `off`: what the empty calls of `NullTrace` cost. That is far below the noise of a clock around a
  step, so they are counted over a stretch, timed by themselves, and divided by the steps' time, of
  which the shortest is taken.
* `on`: the same for writing down, taking and encoding events, by the CPU time of the thread.
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
from pellucid.trace import NullTrace, StepTrace

MODEL, ANSWERS, PROMPT, ANSWER = "smollm2", 8, 64, 400
STEPS = 12
"""Of a stretch of the engine: a fraction of a second, so that neighbours meet the same machine."""
STRETCH_S, LINGER_S = 3.0, 2.3
"""Of the server: a stretch, and how long the engine goes on when the watcher has left."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    record = {"model": MODEL, "answers": ANSWERS, "load_before": load, **in_engine(args.pairs)}
    record["server"] = in_server(args.pairs // 2)
    for name in ("off", "on"):
        found = record[name]
        print(f"{name:8} {100 * found['share']:.4f} % of a step: {found['us_per_step']:.2f} µs")
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
    step_s = min(timed(lambda: busy.rate(lambda: None)) / STEPS for _ in range(9))
    return {"step_ms": 1e3 * step_s, "off": off(busy, step_s), "on": on(busy, step_s), **found}


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class Counting(NullTrace):
    """How often the scheduler says something."""

    calls = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("queued", "admitted", "waits", "planned", "landed", "forgot", "left", "close"):
            Counting.calls += 1
        return super().__getattribute__(name)


def off(busy: Busy, step_s: float) -> dict[str, Any]:
    """The empty calls of a step, each as long as the one with most arguments, over the step."""
    Counting.calls = 0
    busy.engine.scheduler.trace = Counting()
    busy.rate(lambda: None)
    calls = Counting.calls / STEPS
    busy.engine.unwatch()
    trace, repeats = NullTrace(), 100_000

    def call() -> None:
        for _ in range(repeats):
            trace.landed(None, None, None)  # type: ignore[arg-type]

    call_s = min(timed(call) for _ in range(5)) / repeats
    found = {"calls_per_step": calls, "us_per_step": 1e6 * calls * call_s}
    return found | {"share": calls * call_s / step_s}


class Timed(StepTrace):
    """How much of the thread's time its calls of every step take."""

    ns = 0

    def planned(self, *args: Any) -> None:
        self._time(super().planned, *args)

    def landed(self, *args: Any) -> None:
        self._time(super().landed, *args)

    def close(self) -> None:
        self._time(super().close)

    def _time(self, call: Callable[..., None], *args: Any) -> None:
        begin = time.thread_time_ns()
        call(*args)
        Timed.ns += time.thread_time_ns() - begin


def on(busy: Busy, step_s: float) -> dict[str, Any]:
    """Writing down, taking and encoding, over the step."""
    engine, Timed.ns = busy.engine, 0
    engine.scheduler.trace = trace = Timed(engine.watch())

    def tell() -> None:
        begin = time.thread_time_ns()
        events, dropped = trace.take()
        frame(Traced(list(events), dropped))
        Timed.ns += time.thread_time_ns() - begin

    stretches = 10
    for _ in range(stretches):
        busy.rate(tell)
    engine.unwatch()
    us = Timed.ns / 1e3 / (STEPS * stretches)
    return {"us_per_step": us, "share": us / 1e6 / step_s}


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
