"""Two engines side by side, measured in turns: what every comparison of configurations is made of.

An `Arm` is one configuration's engine, warmed up. The arms of a comparison run the same requests,
run by run in turns, so that a machine that gets slower meanwhile slows both. Room for two engines
there is because the KV cache is made no larger than the workload needs.

Requests are sampled by default, or the sampler would not be measured. Answers ignore the end of
sequence and have lengths between half of `output_len` and all of it. A slow arm answers shorter, so
that it fits into the time limit, and the other arm of its comparison then does too.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pellucid.assembly import resolve_here
from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.model.checkpoint import Checkpoint
from pellucid.request import EngineInfo, Request, SamplingParams, raise_errors
from pellucid.runner.clock import make_clock
from pellucid.stages import STAGES

SHORTEST = 2
"""Output tokens that every run has: the first, and one that is decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmWorkload:
    """What every configuration runs; lengths in tokens. The single sequence is one such prompt."""

    num_prompts: int = 16
    prompt_len: int = 64
    output_len: int = 64
    repeats: int = 3
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    limit_s: float = 60.0
    """Seconds of runs that one configuration may take; a slow one gets a shorter output."""

    def params(self, output_len: int) -> SamplingParams:
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
            max_tokens=output_len,
            ignore_eos=True,
        )


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One run, in seconds."""

    first_s: float
    """Until every prompt had its first token; 0 if it did not come to that."""
    total_s: float
    num_output: int
    num_decoded: int
    """Tokens that came after `first_s`."""
    share: float
    """Tokens that came within the time limit / tokens asked for."""


@dataclass(slots=True)
class Speed:
    """Repeats of one workload on one engine."""

    output_len: int
    runs: list[ArmRun] = field(default_factory=list)

    def tokens_per_s(self) -> list[float]:
        return [run.num_output / run.total_s for run in self.runs]

    def ms_per_token(self) -> list[float]:
        return [1e3 * (run.total_s - run.first_s) / run.num_decoded for run in self.runs]


@dataclass(slots=True)
class ArmFigures:
    """One configuration's figures."""

    info: EngineInfo
    batch: Speed
    single: Speed
    stages: dict[str, float] = field(default_factory=dict)
    """Milliseconds per token of the single sequence, what borders cost taken out."""
    stage_ms: float = 0.0
    """Wall time per token with borders between the stages."""


def with_room(config: EngineConfig, checkpoint: Checkpoint, work: ArmWorkload) -> EngineConfig:
    """A KV cache that holds the workload and no more, unless the user sized it."""
    if config.num_blocks or config.memory:
        return config
    size = resolve_here(config, checkpoint).block_size
    blocks = min(config.max_seqs, work.num_prompts) * -(
        -(work.prompt_len + work.output_len) // size
    )
    return dataclasses.replace(config, num_blocks=blocks)


def with_changes(config: EngineConfig, changes: Mapping[str, str]) -> EngineConfig:
    """The switchboard holds text; the fields have types."""
    kinds: dict[str, Any] = {
        spec.name: type(spec.default) for spec in dataclasses.fields(EngineConfig)
    }
    return dataclasses.replace(config, **{key: kinds[key](v) for key, v in changes.items()})


def in_turns(one: Arm, other: Arm, repeats: int) -> tuple[ArmFigures, ArmFigures]:
    """The figures of two arms on the same requests. They take turns at going first, so that neither
    always runs on the machine as the other one left it."""
    lengths = one.batch_len, one.single_len
    one.shorten(other)
    other.shorten(one)
    first, second = one.figures(), other.figures()
    for number in range(1, repeats + 1):
        pairs = [(one, first), (other, second)]
        for arm, into in pairs if number % 2 else reversed(pairs):
            arm.round(into, number)
    one.batch_len, one.single_len = lengths
    return first, second


class Arm:
    """One side of a comparison: an engine, warmed up."""

    def __init__(self, config: EngineConfig, checkpoint: Checkpoint, work: ArmWorkload) -> None:
        self.engine = Engine(config, checkpoint)
        self.work = work
        self.batch_len, self.single_len = (self._warm_up(n) for n in (work.num_prompts, 1))

    def figures(self) -> ArmFigures:
        """An empty record for this arm's figures."""
        return ArmFigures(self.engine.info, Speed(self.batch_len), Speed(self.single_len))

    def shorten(self, other: Arm) -> None:
        """Take the other's lengths where they are shorter."""
        self.batch_len = min(self.batch_len, other.batch_len)
        self.single_len = min(self.single_len, other.single_len)

    def round(self, into: ArmFigures, number: int) -> None:
        """Both workloads once; the same `number` means the same requests."""
        seed = self.work.seed * 1000 + number
        into.batch.runs.append(
            run_requests(self.engine, self.work, self.work.num_prompts, self.batch_len, seed)
        )
        into.single.runs.append(run_requests(self.engine, self.work, 1, self.single_len, seed))

    def measure_stages(self, into: ArmFigures) -> None:
        """Fill in ms per token and stage of a single sequence, and their wall time."""
        engine, work, length = self.engine, self.work, self.single_len
        clock = make_clock(torch.device(engine.info.device))
        with engine.timed(clock):
            run_requests(engine, work, 1, length, 0)  # records a graph with borders
            add_requests(engine, work, 1, length, 1)
            while not raise_errors(engine.step()):
                pass
            clock.restart()
            begin, num_tokens = time.perf_counter(), 0
            while engine.has_work:
                num_tokens += sum(len(output.token_ids) for output in raise_errors(engine.step()))
            clock.settle()
            into.stage_ms = 1e3 * (time.perf_counter() - begin) / num_tokens
        into.stages = {s: clock.ns[s] / 1e6 / num_tokens for s in STAGES if clock.ns.get(s)}

    def _warm_up(self, num_prompts: int) -> int:
        """Compile kernels and record graphs; returns how many tokens an answer may have in the time
        limit. The second of two rounds decides, because the first one compiles. Each round ends
        with a run that is not cut short, since batches shrink at their end and so meet new shapes.
        """
        work = self.work
        limit_s = work.limit_s / 2 / (work.repeats + 1)
        for _ in range(2):
            warm = run_requests(self.engine, work, num_prompts, work.output_len, 0, limit_s)
            length = max(SHORTEST, int(work.output_len * warm.share))
            run_requests(self.engine, work, num_prompts, length, 0)
        return length


def run_requests(
    engine: Engine,
    work: ArmWorkload,
    num_prompts: int,
    output_len: int,
    number: int,
    limit_s: float = math.inf,
) -> ArmRun:
    """Answer all prompts at once. After `limit_s` seconds the rest is aborted, once some answer
    has two tokens."""
    begin = time.perf_counter()
    lengths = add_requests(engine, work, num_prompts, output_len, number)
    counts = dict.fromkeys(lengths, 0)
    first_s, num_decoded = 0.0, 0
    while engine.has_work:
        for output in raise_errors(engine.step()):
            if output.request_id in counts:  # not of a run that was cut short
                num_decoded += len(output.token_ids)
                counts[output.request_id] += len(output.token_ids)
        now = time.perf_counter() - begin
        if not first_s and all(counts.values()):
            first_s, num_decoded = now, 0
        if now > limit_s and max(counts.values()) >= SHORTEST:
            for name in counts:
                engine.abort(name)
    total_s = time.perf_counter() - begin
    num_output = sum(counts.values())
    return ArmRun(first_s, total_s, num_output, num_decoded, num_output / sum(lengths.values()))


def add_requests(
    engine: Engine, work: ArmWorkload, num_prompts: int, output_len: int, number: int
) -> dict[str, int]:
    """Queue the prompts of run `number`; returns the length of each one's answer."""
    rng = random.Random(number)
    vocab = engine.info.vocab_size
    lengths: dict[str, int] = {}
    for index in range(num_prompts):
        ids = [rng.randrange(vocab) for _ in range(work.prompt_len)]
        # A single sequence has the full length.
        length = (
            output_len if index == 0 else rng.randint(max(SHORTEST, output_len // 2), output_len)
        )
        name = f"ablate-{number}-{index}"
        request = Request(id=name, prompt_token_ids=ids, params=work.params(length))
        engine.add(request, last=index == num_prompts - 1)
        lengths[name] = length
    return lengths


def free_memory() -> None:
    """Give a dropped engine's memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
