"""What the cells of a run made the machine do, counted, and how far its roofs reach.

A roofline needs two things of each stage: how long it took, which was measured, and how much it
computed and moved, which follows from shapes. Here is the second, cell by cell, kernel by kernel,
with the roofs: what the machine reached in the same run, and what its maker says.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pellucid.explore import runfile
from pellucid.explore.answer import machine
from pellucid.explore.calibrate import check_run, choices_of, device_of
from pellucid.explore.peaks import sheet_of_device, spec_hardware
from pellucid.explore.work import Load, load_of
from pellucid.explore.workload import Workload


def counts_of(run: runfile.Record) -> dict[str, Any]:
    """Everything that the page needs of a run besides its times. `InputError` if the run lacks
    what the cost model needs."""
    check_run(run)
    spec, choices, device = runfile.spec_of(run), choices_of(run), device_of(run)
    sheet = sheet_of_device(machine(run))
    cells = []
    for cell in run["cells"]:
        where = {key: cell[key] for key in ("phase", "length", "batch")}
        load = load_of(spec, Workload(**where), choices, device)
        cells.append({**where, "stages": kernels_of(load)})
    return {
        "run": run["id"],
        "spec": asdict(spec),
        "choices": asdict(choices),
        "device": device,
        "limits": {
            "flop_s": run["limits"]["matmul_flop_s"],
            "bytes_s": run["limits"]["read_bytes_s"],
        },
        "sheet": asdict(spec_hardware(sheet, choices.activation_bytes)) if sheet else None,
        "cells": cells,
    }


def kernels_of(load: Load) -> dict[str, list[dict[str, Any]]]:
    """By stage. Kernels of one kind that read matrices of one size are one entry: the pieces of a
    prompt differ in their rows alone."""
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for group, count in load.groups.items():
        for work in group.works:
            key = work.stage, work.kind, work.weights
            entry = found.setdefault(
                key, {"kind": work.kind, "weights": work.weights, **dict.fromkeys(SUMS, 0.0)}
            )
            amounts = (1, work.flops, work.bytes, work.launches + work.calls, work.pad_flops)
            for name, amount in zip(SUMS, amounts, strict=True):
                entry[name] += count * amount
    stages: dict[str, list[dict[str, Any]]] = {}
    for (stage, _, _), entry in found.items():
        stages.setdefault(stage, []).append(entry)
    return stages


SUMS = ("count", "flops", "bytes", "launches", "pad_flops")
