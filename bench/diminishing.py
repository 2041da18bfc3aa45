#!/usr/bin/env python
"""Does an optimization buy less once the others are there? Each one is measured first and last.

    python bench/diminishing.py --threads 1 --cpu-time --prompts 32 --answer 32 \\
        --json bench/results/diminishing-cpu-short.json
    python bench/diminishing.py --threads 1 --cpu-time --prompts 512 --answer 32 --keep kv_cache \\
        --json bench/results/diminishing-cpu-long.json
    python bench/diminishing.py --device cuda --model bench/models/qwen3-0.6b \\
        --load-format dummy --prompts 128 1024 --answer 32 --limit-s 150 \\
        --json bench/results/diminishing-gpu.json

Problem: "twice as fast" is true of an optimization only next to others. To say whether it buys less
in an engine that is efficient already, one and the same optimization has to be measured in a slow
engine and in a fast one.

Idea: time one answer of real length in every engine that a comparison needs.

    first    the switch on top of nothing, or of what it does not work without
    last     the switch on top of all others, less those that do not work without it
    ladder   the switches in the order of the switchboard, one more at each step

A comparison changes one switch and nothing else. Its two figures are the factor (time before / time
after) and the milliseconds saved per token; they need not agree. Example: 100 ms become 50 ms,
then 10 ms become 2 ms. The factor grows from 2 to 5, and the saving falls from 50 ms to 8 ms.

All engines exist side by side and answer the same prompt in each round, in an order that is drawn
anew, so that a busy machine hits all alike. A figure is the median over rounds of what the two
engines did in the same round. The time of the prompt itself is kept apart.

On a machine that is busy with other work, `--cpu-time` counts only the time that the process has a
core, on one thread; and a run can be cut in several (`--limit-s`, then `--add`), since what is
compared is always of one round. `--keep kv_cache` leaves a switch on throughout: behind a long
prompt an answer without the cache takes minutes. Switches that only matter to several requests at
once (`BATCHES`) stay on as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import environment as shared
from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.explore.arms import (
    ArmWorkload,
    add_requests,
    run_requests,
    with_changes,
    with_room,
)
from pellucid.features import FEATURES, excluded
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.process import own_process
from pellucid.request import raise_errors

BATCHES = ("batching", "chunked_prefill")
SHORT_ANSWER = 4
"""Tokens of the run that warms an engine up where nothing is recorded for later."""

On = frozenset[str]
"""The switches that are on; all others are off."""
Settings = Callable[[Iterable[str]], Mapping[str, str]]
"""Switches that are on → every switch and its value."""


class Step(NamedTuple):
    """One switch added to others."""

    kind: str
    """first, last or ladder"""
    key: str
    before: On

    @property
    def after(self) -> On:
        return self.before | {self.key}


class Sample(NamedTuple):
    """One answer."""

    ms: float
    """Milliseconds per token behind the first one."""
    prompt_s: float
    """Seconds until the first one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--load-format", default="auto", help="dummy: random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the time that the process has a core, not the time that passes; one thread",
    )
    parser.add_argument("--threads", type=int, default=0, help="0: a thread for each core")
    parser.add_argument("--prompts", type=int, nargs="+", default=[64], help="lengths of prompts")
    parser.add_argument("--answer", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", nargs="*", default=[], help="switches that stay on")
    parser.add_argument(
        "--limit-s", type=float, default=0, help="no round begins that would end later"
    )
    parser.add_argument("--commit", default="", help="of the sources, where git does not know")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--add", action="store_true", help="go on with the rounds of that file")
    args = parser.parse_args()
    own_process()
    config = EngineConfig.from_kwargs(
        model=args.model,
        load_format=args.load_format,
        device=args.device,
        threads=args.threads,
    )
    if args.cpu_time and (args.device == "cuda" or args.threads != 1):
        parser.error("--cpu-time is for a CPU and needs --threads 1")
    clock = time.process_time if args.cpu_time else time.perf_counter
    bench = Bench(config, args.prompts, args.answer, args.keep, clock)
    environment = shared.environment()
    environment["commit"] = args.commit or environment["commit"]
    if args.add:
        bench.add(json.loads(Path(args.json).read_text(encoding="utf-8")))

    def save() -> None:
        if args.json:
            shared.write_json(args.json, {"environment": environment, **bench.report()})

    bench.measure(args.rounds, args.limit_s or float("inf"), save)
    show(bench.report())


class Bench:
    """The engines of all comparisons, and what they took."""

    def __init__(
        self,
        config: EngineConfig,
        prompts: Sequence[int],
        answer: int,
        keep: Iterable[str] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._begin = time.monotonic()
        self._clock = clock
        self._works = [ArmWorkload(num_prompts=1, prompt_len=n, output_len=answer) for n in prompts]
        checkpoint = open_checkpoint(config)
        self._config = with_room(config, checkpoint, max(self._works, key=lambda w: w.prompt_len))
        everything = Engine(self._config, checkpoint)
        self.model, self.device = everything.info.model, everything.info.device_name
        self.wanted = everything.info.switches
        self.kept = [key for key in self.wanted if key in (*BATCHES, *keep)]
        self.switches = [
            f.key for f in FEATURES if self.wanted[f.key] != f.off and f.key not in self.kept
        ]
        self.engines = {frozenset(self.switches): everything}
        self.notes: list[str] = []
        self.steps = [
            step
            for step in steps(self.switches, self._settings)
            if all(self._has_engine(on, checkpoint) for on in (step.before, step.after))
        ]
        used = {on for step in self.steps for on in (step.before, step.after)}
        self.engines = {on: engine for on, engine in self.engines.items() if on in used}
        self.samples: dict[tuple[On, int], list[Sample]] = {
            (on, work.prompt_len): [] for on in self.engines for work in self._works
        }
        """By engine and prompt, one for each round."""
        for engine in self.engines.values():
            self._warm_up(engine)

    def measure(self, rounds: int, limit_s: float, save: Callable[[], None] = lambda: None) -> None:
        """So many rounds, or as many as end before `limit_s` seconds after the bench was made; but
        one. `save` is called after each."""
        longest = 0.0
        done = len(next(iter(self.samples.values())))
        for number in range(done + 1, done + rounds + 1):
            begin = time.monotonic()
            if longest and begin - self._begin + longest > limit_s:
                say(f"the time is up before round {number} of {done + rounds}")
                return
            for on in random.Random(number).sample(list(self.engines), len(self.engines)):
                for work in self._works:
                    sample = self._answer(self.engines[on], work, number)
                    self.samples[on, work.prompt_len].append(sample)
            longest = max(longest, time.monotonic() - begin)
            say(f"round {number} of {done + rounds}: {time.monotonic() - begin:.0f} s")
            save()

    def add(self, record: Mapping[str, Any]) -> None:
        """Go on from an earlier run of the same engines and lengths."""
        for work in record["workloads"]:
            for engine in work["engines"]:
                pairs = zip(engine["ms_per_token"]["samples"], engine["prompt_s"], strict=True)
                found = [Sample(ms, prompt_s) for ms, prompt_s in pairs]
                self.samples[frozenset(engine["on"]), work["prompt"]] += found

    def report(self) -> dict[str, Any]:
        """As it goes to JSON."""
        return {
            "model": self.model,
            "device": self.device,
            "config": dataclasses.asdict(self._config),
            "everything": self.wanted,
            "switches": self.switches,
            "kept": self.kept,
            "notes": self.notes,
            "clock": "cpu" if self._clock is time.process_time else "wall",
            "workloads": [self._workload(work) for work in self._works],
        }

    def _workload(self, work: ArmWorkload) -> dict[str, Any]:
        samples = self.samples
        times = {on: [s.ms for s in samples[on, work.prompt_len]] for on in self.engines}
        return {
            "prompt": work.prompt_len,
            "answer": work.output_len,
            "rounds": len(next(iter(times.values()))),
            "engines": [
                {
                    "on": self._sorted(on),
                    "ms_per_token": shared.summary(ms),
                    "prompt_s": [s.prompt_s for s in self.samples[on, work.prompt_len]],
                }
                for on, ms in times.items()
            ],
            "steps": [
                {
                    "kind": step.kind,
                    "switch": step.key,
                    "before": self._sorted(step.before),
                    **compared(times[step.before], times[step.after]),
                }
                for step in self.steps
            ],
        }

    def _answer(self, engine: Engine, work: ArmWorkload, number: int) -> Sample:
        """The time of one answer; the same `number` is the same prompt."""
        begin = first = self._clock()
        add_requests(engine, work, 1, work.output_len, number)
        num_tokens = 0
        while engine.has_work:
            num_tokens += sum(len(output.token_ids) for output in raise_errors(engine.step()))
            if num_tokens <= 1:
                first = self._clock()
        end = self._clock()
        return Sample(1e3 * (end - first) / (num_tokens - 1), first - begin)

    def _sorted(self, on: On) -> list[str]:
        return [key for key in self.switches if key in on]

    def _settings(self, on: Iterable[str]) -> dict[str, str]:
        on = {*on, *self.kept}
        return {f.key: self.wanted[f.key] if f.key in on else f.off for f in FEATURES}

    def _has_engine(self, on: On, checkpoint: Checkpoint) -> bool:
        """Whether there is an engine with these switches: it is made now, or was before. One that
        does not run here leaves a note, and its comparisons out."""
        title = " ".join(self._sorted(on)) or "nothing"
        if on in self.engines or any(note.startswith(f"{title}: ") for note in self.notes):
            return on in self.engines
        say(f"engine with {title}")
        try:
            config = with_changes(self._config, self._settings(on))
            self.engines[on] = Engine(config, checkpoint)
        except (InputError, torch.OutOfMemoryError) as error:
            self.notes.append(f"{title}: {str(error).splitlines()[0]}")
            say(self.notes[-1])
        return on in self.engines

    def _warm_up(self, engine: Engine) -> None:
        """Compile and record what the runs will need; a step is recorded at its second time."""
        on_cpu = engine.info.device == "cpu"
        for work in self._works:
            for number in range(2 if engine.info.switches["graphs"] == "on" else 1):
                length = SHORT_ANSWER if on_cpu else work.output_len
                run_requests(engine, work, 1, length, -number)


def steps(switches: Sequence[str], settings: Settings) -> list[Step]:
    """Every comparison. settings: the switches that are on → switch → value."""
    everything = frozenset(switches)
    found = []
    for key in switches:
        found.append(Step("first", key, needed(key, everything, settings)))
    for key in switches:
        without = everything - {key}
        found.append(Step("last", key, working(without, settings)))
    for number, key in enumerate(switches):
        found.append(Step("ladder", key, frozenset(switches[:number])))
    return found


def needed(key: str, everything: On, settings: Settings) -> On:
    """The switches without which `key` does not work."""
    on: set[str] = set()
    while other := excluded(key, settings({*on, key})):
        name = other.partition("=")[0]
        assert name in everything - on, f"{key} does not work with {other}, which stays"
        on.add(name)
    return frozenset(on)


def working(on: On, settings: Settings) -> On:
    """`on` less the switches that do not work without one that is off."""
    while lost := {key for key in on if excluded(key, settings(on))}:
        on -= lost
    return on


def compared(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    """Times before / times after, and the milliseconds in between, round by round."""
    pairs = list(zip(before, after, strict=True))
    return {
        "factor": shared.summary([old / new for old, new in pairs]),
        "saved_ms": shared.summary([old - new for old, new in pairs]),
    }


def show(record: Mapping[str, Any]) -> None:
    for work in record["workloads"]:
        title = f"prompt {work['prompt']}, answer {work['answer']}, {work['rounds']} rounds"
        print(f"{record['model']} on {record['device']}, {title}")
        for step in work["steps"]:
            factor, saved = step["factor"], step["saved_ms"]
            print(
                f"  {step['kind']:6} {step['switch']:14} {factor['median']:6.2f}× "
                f"({factor['min']:.2f}–{factor['max']:.2f})  {saved['median']:9.3f} ms a token "
                f"({saved['min']:.3f}–{saved['max']:.3f})"
            )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
