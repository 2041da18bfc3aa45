"""What each optimization buys here: the engine as it is, without each one, and without all.

The configurations come from the switchboard. Three figures for each: output tokens per second of a
batch, milliseconds per token of a single sequence, and where those milliseconds go.

The default configuration stays loaded, and every other one is built beside it and measured in turns
with it, run by run: a machine that gets slower meanwhile slows both sides of a comparison. Room for
two engines there is because the KV cache is made no larger than the workload needs. Stages are
measured with borders between them, which cost time themselves; how much is reported with them.

Requests are sampled by default, or the sampler would not be measured. Answers ignore the end of
sequence and have lengths between half of `output_len` and all of it: the same ones for every
configuration. `ablate_table.py` shows the report.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch

from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.explore.hardware import environment
from pellucid.features import FEATURES, excluded
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.request import EngineInfo, Request, SamplingParams, to_builtins
from pellucid.runner.clock import make_clock
from pellucid.runner.machine import choose_machine
from pellucid.stages import STAGES

Progress = Callable[[str], None]
DEFAULT, ALL_OFF = "default", "all off"
SHORTEST = 2
"""Output tokens that every run has: the first, and one that is decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
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


class Variant(NamedTuple):
    """A configuration to compare with the default one."""

    name: str
    changes: dict[str, str]
    """Switch → value, as text."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, in seconds."""

    first_s: float
    """Until every prompt had its first token; 0 if it did not come to that."""
    total_s: float
    num_output: int
    num_decoded: int
    """Tokens that came after `first_s`."""
    share: float
    """Of the tokens asked for, those that the time limit allowed."""


@dataclass(slots=True)
class Speed:
    """Repeats of one workload on one engine."""

    output_len: int
    runs: list[Run] = field(default_factory=list)

    def tokens_per_s(self) -> list[float]:
        return [run.num_output / run.total_s for run in self.runs]

    def ms_per_token(self) -> list[float]:
        return [1e3 * (run.total_s - run.first_s) / run.num_decoded for run in self.runs]


@dataclass(slots=True)
class Measured:
    """One configuration's figures."""

    info: EngineInfo
    batch: Speed
    single: Speed
    stages: dict[str, float] = field(default_factory=dict)
    """Milliseconds per token of the single sequence; `other` is what no stage claims."""
    stage_ms: float = 0.0
    """Wall time per token with borders between the stages."""


def ablate(config: EngineConfig, work: Workload, progress: Progress) -> dict[str, Any]:
    """Measure the default, each switch off, and all off; the report as it goes to JSON.

    Ctrl-C keeps the configurations that were measured whole.
    """
    checkpoint = open_checkpoint(config)
    config = with_room(config, work)
    default = Arm(config, checkpoint, work)
    first = default.measured()
    default.round(first, 0)
    default.measure_stages(first)
    progress(line(DEFAULT, first))
    variants, skipped = plan(default.engine.info.switches)
    results = []
    for variant in variants:
        try:
            found = attempt(default, with_changes(config, variant.changes), checkpoint, work)
        except KeyboardInterrupt:
            skipped.append({"name": variant.name, "reason": "interrupted, and so were the rest"})
            break
        finally:
            free()
        if isinstance(found, str):
            skipped.append({"name": variant.name, "reason": found})
            progress(f"{variant.name}: not measured, {found}")
            continue
        results.append((variant, *found))
        for name, measured in zip((DEFAULT, variant.name), found, strict=True):
            progress(line(name, measured))
    return report(config, work, first, results, skipped)


def attempt(
    default: Arm, config: EngineConfig, checkpoint: Checkpoint, work: Workload
) -> tuple[Measured, Measured] | str:
    """The default and another configuration measured in turns, or why the other cannot run."""
    try:
        other = Arm(config, checkpoint, work)
        control, found = default.measured(), other.measured()
        for number in range(1, work.repeats + 1):
            # Who goes first changes, so that neither always meets the machine as the other left it.
            pairs = [(default, control), (other, found)]
            for arm, into in pairs if number % 2 else reversed(pairs):
                arm.round(into, number)
        other.measure_stages(found)
    except (InputError, torch.OutOfMemoryError) as error:
        return str(error).splitlines()[0]
    return control, found


# --- which configurations -----------------------------------------------------------------------


def plan(resolved: Mapping[str, str]) -> tuple[list[Variant], list[dict[str, str]]]:
    """Each switch off alone, then all off; and the switches that cannot be turned off, with why.

    resolved: every switch and what it came to in the default configuration.
    """
    variants: list[Variant] = []
    skipped: list[dict[str, str]] = []
    for feature in FEATURES:
        if resolved[feature.key] == feature.off:
            reason = f"the default configuration comes to {feature.off} here already"
            skipped.append({"name": feature.key, "reason": reason})
        else:
            variants.append(Variant(feature.key, with_conflicts(resolved, feature.key)))
    everything = {feature.key: feature.off for feature in FEATURES}
    if variants:
        variants.append(Variant(ALL_OFF, everything))
    return variants, skipped


def with_conflicts(resolved: Mapping[str, str], key: str) -> dict[str, str]:
    """The changes that turn `key` off: itself, and whatever does not work without it."""
    off = {feature.key: feature.off for feature in FEATURES}
    changes = {key: off[key]}
    while True:
        settings = {**resolved, **changes}
        more = {k: off[k] for k in settings if settings[k] != off[k] and excluded(k, settings)}
        if not more:
            return changes
        changes |= more


def with_changes(config: EngineConfig, changes: Mapping[str, str]) -> EngineConfig:
    """The switchboard holds text; the fields have types."""
    kinds: dict[str, Any] = {
        spec.name: type(spec.default) for spec in dataclasses.fields(EngineConfig)
    }
    return dataclasses.replace(config, **{key: kinds[key](v) for key, v in changes.items()})


# --- measuring one of them ----------------------------------------------------------------------


def with_room(config: EngineConfig, work: Workload) -> EngineConfig:
    """A KV cache that holds the workload and no more, unless the user sized it."""
    if config.num_blocks or config.memory:
        return config
    size = choose_machine(config).block_size
    blocks = min(config.max_seqs, work.num_prompts) * -(
        -(work.prompt_len + work.output_len) // size
    )
    return dataclasses.replace(config, num_blocks=blocks)


class Arm:
    """One side of a comparison: an engine, warmed up."""

    def __init__(self, config: EngineConfig, checkpoint: Checkpoint, work: Workload) -> None:
        self.engine = Engine(config, checkpoint)
        self.work = work
        self.batch_len, self.single_len = (self._warm_up(n) for n in (work.num_prompts, 1))

    def measured(self) -> Measured:
        """A sheet for this arm's figures, still empty."""
        return Measured(self.engine.info, Speed(self.batch_len), Speed(self.single_len))

    def round(self, into: Measured, number: int) -> None:
        """Both workloads once; the same `number` means the same requests."""
        seed = self.work.seed * 1000 + number
        into.batch.runs.append(
            run(self.engine, self.work, self.work.num_prompts, self.batch_len, seed)
        )
        into.single.runs.append(run(self.engine, self.work, 1, self.single_len, seed))

    def measure_stages(self, into: Measured) -> None:
        """Fill in ms per token and stage of a single sequence, and their wall time."""
        engine, work, length = self.engine, self.work, self.single_len
        clock = make_clock(torch.device(engine.info.device))
        with engine.timed(clock):
            run(engine, work, 1, length, 0)  # a graph with borders is recorded on first use
            add(engine, work, 1, length, 1)
            while not engine.step():
                pass
            clock.restart()
            begin, num_tokens = time.perf_counter(), 0
            while engine.has_work:
                num_tokens += sum(len(output.token_ids) for output in engine.step())
            clock.settle()
            into.stage_ms = 1e3 * (time.perf_counter() - begin) / num_tokens
        into.stages = {s: clock.ns[s] / 1e6 / num_tokens for s in STAGES if clock.ns.get(s)}
        rest = into.stage_ms - sum(into.stages.values())
        into.stages["other"] = into.stages.get("other", 0.0) + rest

    def _warm_up(self, num_prompts: int) -> int:
        """Compile and record; returns how many tokens an answer may have in the time there is."""
        work = self.work
        run(self.engine, work, num_prompts, SHORTEST, 0)
        limit_s = work.limit_s / 2 / (work.repeats + 1)
        warm = run(self.engine, work, num_prompts, work.output_len, 0, limit_s)
        return max(SHORTEST, int(work.output_len * warm.share))


def run(
    engine: Engine,
    work: Workload,
    num_prompts: int,
    output_len: int,
    number: int,
    limit_s: float = math.inf,
) -> Run:
    """All prompts at once to the end, or until time is up, but for two tokens at least."""
    begin = time.perf_counter()
    lengths = add(engine, work, num_prompts, output_len, number)
    counts = dict.fromkeys(lengths, 0)
    first_s, num_decoded = 0.0, 0
    while engine.has_work:
        for output in engine.step():
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
    return Run(first_s, total_s, num_output, num_decoded, num_output / sum(lengths.values()))


def add(
    engine: Engine, work: Workload, num_prompts: int, output_len: int, number: int
) -> dict[str, int]:
    """Queue the prompts of run `number`; returns the length of each one's answer."""
    rng = random.Random(number)
    vocab = engine.info.vocab_size
    lengths: dict[str, int] = {}
    engine.scheduler.expects_more = True
    for index in range(num_prompts):
        ids = [rng.randrange(vocab) for _ in range(work.prompt_len)]
        # A single sequence has the full length.
        length = (
            output_len if index == 0 else rng.randint(max(SHORTEST, output_len // 2), output_len)
        )
        name = f"ablate-{number}-{index}"
        engine.add(Request(id=name, prompt_token_ids=ids, params=work.params(length)))
        lengths[name] = length
    engine.scheduler.expects_more = False  # a static batch need not wait for others
    return lengths


def free() -> None:
    """Give a dropped engine's memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# --- what to say about it -----------------------------------------------------------------------


def report(
    config: EngineConfig,
    work: Workload,
    first: Measured,
    results: Sequence[tuple[Variant, Measured, Measured]],
    skipped: list[dict[str, str]],
) -> dict[str, Any]:
    """Everything measured, each row beside the default as it was measured in turns with it."""
    controls = [first, *(control for _, control, _ in results)]
    pooled = Measured(
        first.info,
        Speed(first.batch.output_len, [r for c in controls for r in c.batch.runs]),
        Speed(first.single.output_len, [r for c in controls for r in c.single.runs]),
        first.stages,
        first.stage_ms,
    )
    rows = [row(Variant(DEFAULT, {}), pooled, pooled, work)]
    rows += [row(variant, found, control, work) for variant, control, found in results]
    return {
        "environment": environment(),
        "engine": to_builtins(first.info),
        "config": asdict(config),
        "workload": asdict(work),
        "rows": rows,
        "skipped": skipped,
        "controls": {
            "batch": drift([statistics.median(c.batch.tokens_per_s()) for c in controls]),
            "single": drift([statistics.median(c.single.ms_per_token()) for c in controls]),
        },
    }


def row(variant: Variant, measured: Measured, control: Measured, work: Workload) -> dict[str, Any]:
    """One configuration as it goes to JSON."""
    default = control.info.switches
    batch, single = summary(measured.batch.tokens_per_s()), summary(measured.single.ms_per_token())
    before_batch = statistics.median(control.batch.tokens_per_s())
    before_single = statistics.median(control.single.ms_per_token())
    return {
        "name": variant.name,
        "changes": variant.changes,
        # What else came out differently: switches that do not work without this one.
        "also": {
            key: value
            for key, value in measured.info.switches.items()
            if value != default[key] and variant.name not in (key, ALL_OFF)
        },
        "batch_tok_s": batch,
        "batch_time_vs_default": before_batch / batch["median"],
        "single_ms_per_token": single,
        "single_time_vs_default": single["median"] / before_single,
        "stages_ms": measured.stages,
        "stages_wall_ms": measured.stage_ms,
        "stages_wall_ratio": measured.stage_ms / single["median"],
        "output_len": {"batch": measured.batch.output_len, "single": measured.single.output_len},
        "shortened": min(measured.batch.output_len, measured.single.output_len) < work.output_len,
        "runs": {
            "batch": [asdict(r) for r in measured.batch.runs],
            "single": [asdict(r) for r in measured.single.runs],
        },
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def drift(medians: Sequence[float]) -> dict[str, Any]:
    """How far the default configuration moved while the others were measured."""
    return {"medians": list(medians), "drift": max(medians) / min(medians) - 1}


def line(name: str, measured: Measured) -> str:
    """One configuration's figures, as they come."""
    rate = statistics.median(measured.batch.tokens_per_s())
    pace = statistics.median(measured.single.ms_per_token())
    return f"{name}: {rate:.1f} tokens/s, {pace:.2f} ms/token"
