"""How far this machine stays below its peaks: the cost model's few numbers, fitted to a run.

Problem: a data sheet says what a machine could do. What our kernels get out of it is known only
after a measurement; a cost model with a number for every stage and length would merely repeat it.

Idea: sixteen numbers. Peaks are those that the machine reached in the run itself (one large
product, one long read); the fit finds which part of each the stages reach (`Hardware.eta_*`), and
what starting a kernel and a step costs. They are found by least squares on the logarithm of time,
so that a factor of two counts the same for a short stage and a long one, over the medians of all
stages that take at least a hundredth of their step.

The search multiplies or divides one number at a time by a factor (4 at first) and keeps the change
if the error falls. When no change helps, the search takes the square root of the factor, down to
1.01, and then begins again with 4 until a whole round gains less than 1 %. This suits a sum of
maxima, which has corners and no useful slope, and it keeps every number positive. A weak pull
towards the start keeps a number in place when no cell depends on it.

A fit is worth what it predicts. So a random third of the cells is set aside and never looked at;
the errors that are reported, and the band that comes with every prediction, are those on that third
(split conformal prediction). The band spans the middle nine tenths of measured / modelled.

Sources: Hooke & Jeeves 1961, doi:10.1145/321062.321069 (the search); Vovk et al. 2005, Algorithmic
Learning in a Random World (the band).
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

from pellucid.errors import InputError
from pellucid.explore import crossover, runfile
from pellucid.explore.peaks import CALIBRATION_SCHEMA
from pellucid.explore.roofline import (
    MODELLED,
    Hardware,
    Prices,
    priced,
    stage_seconds,
)
from pellucid.explore.work import Load, load_of, num_head_weights, num_layer_weights
from pellucid.explore.workload import Choices, Workload
from pellucid.model.spec import ModelSpec
from pellucid.stages import HOST_STAGES

START = {
    "eta_gemm": 0.8,
    "gemm_rows": 4.0,
    "eta_gemv": 0.8,
    "eta_attention_flops": 0.5,
    "attention_positions": 32.0,
    "eta_attention_bytes": 0.5,
    "eta_reduction": 1.0,
    "eta_elementwise": 1.0,
    "launch_s": 2e-5,
    "library_s": 2e-5,
    "node_s": 1e-6,
    "library_node_s": 1e-6,
    "attention_launches": 2.0,
    "host_s": 1e-4,
    "host_row_s": 1e-5,
    "host_token_s": 1e-7,
}
"""What is fitted, and where the search begins."""
FIRST_FACTOR, LAST_FACTOR = 4.0, 1.01
ENOUGH = 0.99
"""A search that leaves so much of the error is the last one."""
PULL = 1e-3
"""Weight of a number's squared log distance from its start beside one stage's squared log error."""
HELD_OUT = 1 / 3
"""Of the cells, set aside."""
FEWEST_CELLS = 6
VISIBLE = 0.01
"""A stage's part of its step from which on it is fitted and judged."""
HIDDEN = 0.05
"""With `overlap`, `host_gap` counts only from this part of a step on."""
BAND = 0.9
"""Of the residuals, within the band."""
ELEMENT_SIZE = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True, slots=True)
class Point:
    """One cell: what it makes a machine do, and how long that took."""

    workload: Workload
    load: Load
    seconds: Mapping[str, float]
    """Median by stage of `MODELLED`, the host's summed up in `host_gap`."""
    wall_s: float

    def visible(self) -> list[str]:
        """The stages that are fitted and judged: those of at least a hundredth of the step.

        With `overlap` the host works while the device does. `host_gap` then holds only the
        hand-over from one step to the next, which does not tell how long the host works; such a gap
        counts from a twentieth of the step on.
        """
        return [
            stage
            for stage, s in self.seconds.items()
            if s >= VISIBLE * self.wall_s
            and (stage != "host_gap" or not self.load.hides_host or s >= HIDDEN * self.wall_s)
        ]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted machine, and how well it predicts cells it was not fitted to."""

    hardware: Hardware
    report: dict[str, Any]


def calibrate(run: runfile.Record, seed: int = 0) -> Calibration:
    """Fit a machine to two thirds of a run's cells and judge it by the rest.

    seed: of which cells are set aside. `InputError` if there are too few.
    """
    check_run(run)
    points = [point for point in points_of(run) if point.visible()]
    if len(points) < FEWEST_CELLS:
        raise InputError(
            f"the run has {len(points)} cells, and calibrating needs {FEWEST_CELLS}: measure more "
            "lengths, or both phases"
        )
    held_out = random.Random(seed).sample(points, round(HELD_OUT * len(points)))
    fitted = fit_hardware([p for p in points if p not in held_out], peaks_of(run))
    ratios = [ratio for p in held_out for ratio in stage_ratios(p, fitted).values()]
    fastest, slowest = band([1 / ratio for ratio in ratios])
    hardware = replace(fitted, fastest=fastest, slowest=slowest)
    report = {
        "num_fitted": len(points) - len(held_out),
        "num_held_out": len(held_out),
        "seed": seed,
        "held_out": [asdict(p.workload) for p in held_out],
        **errors(held_out, hardware),
        "crossover": crossover_ratios(run, hardware),
    }
    return Calibration(hardware, report)


# What was measured


def check_run(run: runfile.Record) -> None:
    """`InputError` if a valid run file lacks something that calibrating needs besides."""
    engine, limits = run["engine"], run["limits"]
    switches, on_gpu = engine.get("switches"), str(engine.get("device")).startswith("cuda")
    machine = "gpu" if on_gpu else "cpu"
    words = [*switches.values()] if isinstance(switches, dict) else [None]
    chunk = switches.get("chunked_prefill", "-1") if isinstance(switches, dict) else "-1"
    right = {
        **{f"limits.{k}": limits.get(k, 0.0) > 0.0 for k in ("matmul_flop_s", "read_bytes_s")},
        "engine.device": isinstance(engine.get("device"), str),
        "engine.dtype": str(engine.get("dtype")) in ELEMENT_SIZE,
        "engine.switches": all(isinstance(word, str) for word in words),
        "engine.switches.chunked_prefill": str(chunk).removeprefix("-").isdecimal(),
        f"environment.{machine}": isinstance(run["environment"].get(machine), str),
        "model.spec.context_length": run["model"]["spec"].get("context_length", 0) > 0,
    }
    wrong = [name for name, is_right in right.items() if not is_right]
    if wrong:
        raise InputError(
            f"the run cannot be calibrated: {', '.join(wrong)} missing or out of range; "
            "measure again with this version of pellucid",
            param="run",
        )


def points_of(run: runfile.Record) -> list[Point]:
    """The run's cells."""
    spec, choices, device = runfile.spec_of(run), choices_of(run), device_of(run)
    points = []
    for cell in run["cells"]:
        work = Workload(phase=cell["phase"], length=cell["length"], batch=cell["batch"])
        points.append(point_of(cell, work, load_of(spec, work, choices, device)))
    return points


def point_of(cell: Mapping[str, Any], work: Workload, load: Load) -> Point:
    medians = {stage: statistics.median(ns) / 1e9 for stage, ns in cell["stages_ns"].items()}
    seconds = {stage: medians.get(stage, 0.0) for stage in MODELLED}
    seconds["host_gap"] = sum(medians.get(stage, 0.0) for stage in HOST_STAGES)
    return Point(work, load, seconds, statistics.median(cell["wall_ns"]) / 1e9)


def choices_of(run: runfile.Record) -> Choices:
    """The switches and sizes that were measured."""
    spec, engine = runfile.spec_of(run), run["engine"]
    names = {f.name for f in dataclasses.fields(Choices)}
    switches: dict[str, Any] = {k: v for k, v in engine["switches"].items() if k in names}
    switches["chunked_prefill"] = int(switches.get("chunked_prefill", -1))
    head_bytes = run.get("head_bytes", 0)
    num_weights = num_layer_weights(spec) + (0 if head_bytes else num_head_weights(spec))
    return Choices(
        **switches,
        weight_bytes=(run["weight_bytes"] - head_bytes) / num_weights,
        head_bytes=head_bytes / num_head_weights(spec),
        kv_bytes=run["kv_bytes_per_token"] / spec.kv_numbers_per_token,
        activation_bytes=ELEMENT_SIZE[engine["dtype"]],
    )


def device_of(run: runfile.Record) -> Literal["cuda", "cpu"]:
    return "cuda" if run["engine"]["device"].startswith("cuda") else "cpu"


def peaks_of(run: runfile.Record) -> Hardware:
    """The machine with the peaks that it reached, and nothing fitted yet."""
    where, device = run["environment"], device_of(run)
    return Hardware(
        name=where["gpu" if device == "cuda" else "cpu"],
        kind="calibrated",
        device=device,
        flop_s=run["limits"]["matmul_flop_s"],
        bytes_s=run["limits"]["read_bytes_s"],
    )


# The fit


def fit_hardware(points: Sequence[Point], peaks: Hardware) -> Hardware:
    """The machine whose modelled times are nearest to those of `points`."""
    best = replace(peaks, **dict[str, Any](START))
    least, before = loss(points, best), math.inf
    while least < ENOUGH * before:
        before = least
        best, least = search(points, best, least)
    return best


def search(points: Sequence[Point], best: Hardware, least: float) -> tuple[Hardware, float]:
    """From a machine and its loss to a better one, large steps first."""
    factor = FIRST_FACTOR
    while factor > LAST_FACTOR:
        before = least
        for name in START:
            for change in (factor, 1 / factor):
                trial = replace(best, **dict[str, Any]({name: getattr(best, name) * change}))
                if (found := loss(points, trial)) < least:
                    best, least = trial, found
                    break
        if least == before:
            factor = math.sqrt(factor)
    return best, least


def loss(points: Iterable[Point], hardware: Hardware) -> float:
    """Sum of squared logarithms of modelled / measured, and the pull towards the start."""
    pull = sum(math.log(getattr(hardware, name) / start) ** 2 for name, start in START.items())
    return PULL * pull + sum(
        math.log(ratio) ** 2 for point in points for ratio in stage_ratios(point, hardware).values()
    )


def stage_ratios(point: Point, hardware: Hardware) -> dict[str, float]:
    """Modelled / measured time of each visible stage."""
    stages = stage_seconds(point.load, hardware)
    # A host that is hidden behind the device takes no time at all, which has no logarithm.
    least = VISIBLE * VISIBLE * point.wall_s
    return {s: max(stages[s], least) / point.seconds[s] for s in point.visible()}


# How good it is


def errors(points: Sequence[Point], hardware: Hardware) -> dict[str, Any]:
    """Errors of stages and whole steps as parts of what was measured, of shares in points."""
    stages = [abs(r - 1) for p in points for r in stage_ratios(p, hardware).values()]
    budgets = [(p, priced(p.load, hardware)) for p in points]
    shares = [100 * abs(b.share() - p.seconds["attention"] / p.wall_s) for p, b in budgets]
    walls = [abs(b.seconds / p.wall_s - 1) for p, b in budgets]
    return {
        "stage_error": {"median": statistics.median(stages), "p90": quantile(stages, 0.9)},
        "step_error": {"median": statistics.median(walls), "max": max(walls)},
        "share_error_points": {"median": statistics.median(shares), "max": max(shares)},
        "by_stage": by_stage(points, hardware),
    }


def by_stage(points: Sequence[Point], hardware: Hardware) -> dict[str, dict[str, float]]:
    """Median of modelled / measured by phase and stage: which way the cost model errs."""
    found: dict[str, dict[str, list[float]]] = {}
    for point in points:
        for stage, ratio in stage_ratios(point, hardware).items():
            found.setdefault(point.workload.phase, {}).setdefault(stage, []).append(ratio)
    return {
        phase: {stage: statistics.median(ratios) for stage, ratios in stages.items()}
        for phase, stages in found.items()
    }


def crossover_ratios(run: runfile.Record, hardware: Hardware) -> list[dict[str, Any]]:
    """Crossovers modelled and measured, for each phase, batch and share; all cells, fitted ones
    included."""
    spec, choices = runfile.spec_of(run), choices_of(run)
    limit, rows = spec.context_length, []
    for phase, batch in sorted({(cell["phase"], cell["batch"]) for cell in run["cells"]}):
        samples = crossover.samples_of(run, phase, batch)
        if len(samples) < 2:
            continue
        seconds = seconds_of(spec, phase, batch, choices, hardware)
        told = crossover.modelled(seconds, hardware, limit)
        seen = crossover.measured(samples, "recorded", limit)
        rows += [
            {
                "phase": phase,
                "batch": batch,
                "level": level,
                "modelled": told[level]._asdict(),
                "measured": seen[level]._asdict(),
                "ratio": ratio_of(told[level], seen[level]),
            }
            for level in crossover.PARTS
        ]
    return rows


def ratio_of(told: crossover.Estimate, seen: crossover.Estimate) -> float | None:
    """Modelled / measured length, where both were found."""
    if told.status != "found" or seen.status != "found" or not told.value or not seen.value:
        return None
    return told.value / seen.value


def seconds_of(
    spec: ModelSpec, phase: Any, batch: int, choices: Choices, hardware: Hardware
) -> crossover.Seconds:
    """From a length to the seconds of each stage."""

    prices = Prices(spec, choices, hardware)
    return cache(lambda n: prices.seconds(Workload(phase=phase, length=n, batch=batch)))


def band(ratios: Sequence[float]) -> tuple[float, float]:
    """Between which factors the middle `BAND` of measured / modelled lies; always around 1."""
    margin = (1 - BAND) / 2
    return min(1.0, quantile(ratios, margin)), max(1.0, quantile(ratios, 1 - margin))


def quantile(values: Sequence[float], part: float) -> float:
    """The value that so large a part of `values` does not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(part * len(ranked)) - 1)]


def calibration_file(calibration: Calibration, run: runfile.Record) -> dict[str, Any]:
    """The file that `find_hardware` reads."""
    return {
        "schema": CALIBRATION_SCHEMA,
        "run": run["id"],
        "model": run["model"]["name"],
        "hardware": asdict(calibration.hardware),
        "choices": asdict(choices_of(run)),
        "report": calibration.report,
        "cells": modelled_cells(calibration, run),
    }


def modelled_cells(calibration: Calibration, run: runfile.Record) -> list[dict[str, Any]]:
    """Of each cell, the seconds that its visible stages should take, and what they are bound by."""
    cells = []
    for point in points_of(run):
        where, ratios = asdict(point.workload), stage_ratios(point, calibration.hardware)
        costs = priced(point.load, calibration.hardware).stages
        stages = {
            stage: {"seconds": ratio * point.seconds[stage], "bound": costs[stage].bound}
            for stage, ratio in ratios.items()
        }
        held_out = where in calibration.report["held_out"]
        del where["prefix"]
        cells.append({**where, "held_out": held_out, "stages": stages})
    return cells
