"""What each optimization buys here: the engine as it is, without each one, and without all.

The configurations come from the switchboard. Three figures for each: output tokens per second of a
batch, milliseconds per token of a single sequence, and where those milliseconds go. The default
configuration stays loaded, and every other one is built beside it and measured in turns with it
(`arms.py`). Stages are measured with borders between them, which cost time themselves; how much is
reported with them.

Taken away one by one, optimizations are seen next to all the others; `waterfall.py` looks at each
alone, and adds them up. `ablate_table.py` shows the report.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.explore.arms import (
    Arm,
    ArmFigures,
    ArmWorkload,
    Speed,
    free_memory,
    in_turns,
    with_changes,
    with_room,
)
from pellucid.explore.hardware import environment
from pellucid.explore.waterfall import Climb
from pellucid.features import FEATURES, excluded
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.request import to_builtins

Progress = Callable[[str], None]
DEFAULT, ALL_OFF = "default", "all off"
OFF, CLIMB = "off", "climb"
ORDERS = (OFF, CLIMB)
"""Each switch off alone; from nothing upwards, each on alone and then the best one at a time."""


class Variant(NamedTuple):
    """A configuration to compare with the default one."""

    name: str
    changes: dict[str, str]
    """Switch → value, as text."""


def ablate(
    config: EngineConfig,
    work: ArmWorkload,
    progress: Progress,
    orders: Sequence[str] = ORDERS,
) -> dict[str, Any]:
    """Measure the default, each switch off, all off, and the way up; the report as it goes to JSON.

    Ctrl-C keeps the configurations that were measured whole.
    """
    checkpoint = open_checkpoint(config)
    config = with_room(config, checkpoint, work)
    default = Arm(config, checkpoint, work)
    first = default.figures()
    default.round(first, 0)
    default.measure_stages(first)
    progress(line(DEFAULT, first))
    switches = default.engine.info.switches
    variants, skipped = plan(switches)
    results: list[tuple[Variant, ArmFigures, ArmFigures]] = []
    up = Climb(config, checkpoint, work, switches, progress)
    try:
        if OFF in orders:
            for variant in variants:
                found = beside_default(default, variant, config, checkpoint, work)
                free_memory()
                if isinstance(found, str):
                    skipped.append({"name": variant.name, "reason": found})
                    progress(f"{variant.name}: not measured, {found}")
                    continue
                results.append((variant, *found))
                for name, figures in zip((DEFAULT, variant.name), found, strict=True):
                    progress(line(name, figures))
        del default
        free_memory()
        if CLIMB in orders:
            up.run()
    except KeyboardInterrupt:
        skipped.append({"name": "the rest", "reason": "interrupted"})
    way_up = up.report() if up.alone or up.notes else {}
    return {**ablation_report(config, work, first, results, skipped), **way_up}


def beside_default(
    default: Arm, variant: Variant, config: EngineConfig, checkpoint: Checkpoint, work: ArmWorkload
) -> tuple[ArmFigures, ArmFigures] | str:
    """The default and a variant measured in turns, or why the variant cannot run."""
    try:
        other = Arm(with_changes(config, variant.changes), checkpoint, work)
        control, found = in_turns(default, other, work.repeats)
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
    """The changes that turn `key` off: itself, and every switch that does not work without it."""
    off = {feature.key: feature.off for feature in FEATURES}
    changes = {key: off[key]}
    while True:
        settings = {**resolved, **changes}
        more = {k: off[k] for k in settings if settings[k] != off[k] and excluded(k, settings)}
        if not more:
            return changes
        changes |= more


# --- what to say about it -----------------------------------------------------------------------


def ablation_report(
    config: EngineConfig,
    work: ArmWorkload,
    first: ArmFigures,
    results: Sequence[tuple[Variant, ArmFigures, ArmFigures]],
    skipped: list[dict[str, str]],
) -> dict[str, Any]:
    """Everything measured; each row is compared with the default that took turns with it."""
    # Beside a slow configuration the default gave shorter answers: those runs are not pooled.
    controls = [first, *(control for _, control, _ in results)]
    batch = [c.batch for c in controls if c.batch.output_len == first.batch.output_len]
    single = [c.single for c in controls if c.single.output_len == first.single.output_len]
    pooled = ArmFigures(
        first.info,
        Speed(first.batch.output_len, [run for speed in batch for run in speed.runs]),
        Speed(first.single.output_len, [run for speed in single for run in speed.runs]),
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
            "batch": drift([statistics.median(speed.tokens_per_s()) for speed in batch]),
            "single": drift([statistics.median(speed.ms_per_token()) for speed in single]),
        },
    }


def row(
    variant: Variant, measured: ArmFigures, control: ArmFigures, work: ArmWorkload
) -> dict[str, Any]:
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


def line(name: str, measured: ArmFigures) -> str:
    """One configuration's figures, as they come."""
    rate = statistics.median(measured.batch.tokens_per_s())
    pace = statistics.median(measured.single.ms_per_token())
    return f"{name}: {rate:.1f} tokens/s, {pace:.2f} ms/token"
