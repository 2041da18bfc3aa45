"""Fitting the model: a machine is found again from its own times."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli import main
from pellucid.cli.calibrate import beyond
from pellucid.errors import InputError
from pellucid.explore import runfile
from pellucid.explore.calibrate import (
    Calibration,
    calibrate,
    calibration_file,
    choices_of,
    points_of,
    seconds_of,
)
from pellucid.explore.crossover import modelled
from pellucid.explore.peaks import find_hardware
from pellucid.explore.roofline import Hardware, budget
from pellucid.explore.work import weight_bytes
from pellucid.explore.workload import Choices, Workload
from pellucid.model.spec import ModelSpec

SPEC = ModelSpec(
    family="llama", vocab_size=50_000, hidden_size=576, intermediate_size=1536, num_layers=30,
    num_heads=9, num_kv_heads=3, head_dim=64, context_length=8192, norm_eps=1e-5, rope_theta=1e4,
)  # fmt: skip
CHOICES = Choices(weight_bytes=0.625, gemv="off", graphs="off", overlap="off", chunked_prefill=512)
TRUTH = Hardware(
    name="a cpu", device="cpu", flop_s=4e11, bytes_s=3.5e10, launch_s=1e-4, library_s=1e-4,
    node_s=1e-5, host_s=3e-4, host_row_s=2e-5, host_token_s=1e-7,
    eta_gemm=0.6, gemm_rows=1, eta_gemv=0.7,
    eta_attention_flops=0.25, attention_positions=100, eta_attention_bytes=0.3,
    eta_reduction=0.2, eta_elementwise=0.5,
)  # fmt: skip


def cell(phase: str, length: int, batch: int, noise: float, rng: random.Random) -> dict[str, Any]:
    """What measuring the machine would give."""
    work = Workload(phase=phase, length=length, batch=batch)  # type: ignore[arg-type]
    stages = {
        stage: [round(1e9 * cost.seconds * rng.lognormvariate(0, noise)) for _ in range(5)]
        for stage, cost in budget(SPEC, work, CHOICES, TRUTH).stages.items()
    }
    stages["other"] = [0] * 5
    walls = [sum(times) for times in zip(*stages.values(), strict=True)]
    times = {"wall_ns": walls, "timed_wall_ns": walls, "stages_ns": stages}
    return {"phase": phase, "length": length, "batch": batch, "num_steps": 1, **times}


@cache
def run_file(noise: float = 0.0) -> dict[str, Any]:
    rng = random.Random(0)
    lengths = [64 * 4**i for i in range(4)]
    kinds = (("decode", 1), ("decode", 4), ("prefill", 1))
    cells = [cell(phase, n, batch, noise, rng) for phase, batch in kinds for n in lengths]
    switches = {"kv_cache": "on", "attention": "flash", "fused_kernels": "on", "gemv": "off"}
    switches |= {"graphs": "off", "overlap": "off", "chunked_prefill": "512", "weights": "packed"}
    return runfile.seal(
        {
            "environment": {"cpu": "a cpu", "date": "2026-01-01T00:00:00+00:00", "commit": "x"},
            "model": {"name": "small", "spec": asdict(SPEC)},
            "engine": {"device": "cpu", "dtype": "bfloat16", "switches": switches},
            "config": {},
            "weight_bytes": round(weight_bytes(SPEC, CHOICES)),
            "kv_bytes_per_token": 2 * SPEC.kv_numbers_per_token,
            "limits": {"read_bytes_s": TRUTH.bytes_s, "matmul_flop_s": TRUTH.flop_s},
            "settings": {},
            "cells": cells,
            "closure": 0.0,
            "instrument_ratio": 1.0,
            "worst_instrument_ratio": 1.0,
            "interrupted": False,
        }
    )


@cache
def calibrated(noise: float = 0.0) -> Calibration:
    return calibrate(run_file(noise))


def test_a_run_says_what_was_measured() -> None:
    choices = choices_of(run_file())
    assert choices.weight_bytes == pytest.approx(0.625, rel=1e-6)
    assert replace(choices, weight_bytes=0.625) == CHOICES
    point = points_of(run_file())[0]
    assert sum(point.seconds.values()) == pytest.approx(point.wall_s)


def test_a_machine_is_found_again_from_its_own_times() -> None:
    found = calibrated()
    assert found.report["stage_error"]["median"] < 0.02
    assert found.report["stage_error"]["p90"] < 0.05
    assert found.report["share_error_points"]["max"] < 1
    assert found.hardware.kind == "calibrated"
    for name in ("eta_gemm", "eta_gemv", "eta_attention_bytes", "eta_attention_flops", "launch_s"):
        assert getattr(found.hardware, name) == pytest.approx(getattr(TRUTH, name), rel=0.1)


def test_the_crossing_of_a_fitted_machine_is_that_of_the_machine() -> None:
    rows = calibrated().report["crossover"]
    for row in rows:
        seconds = seconds_of(SPEC, row["phase"], row["batch"], CHOICES, TRUTH)
        truth = modelled(seconds, TRUTH, SPEC.context_length)[row["level"]].value
        assert row["modelled"]["value"] == pytest.approx(truth, rel=0.05)
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    assert len(ratios) > 3
    assert ratios == pytest.approx([1] * len(ratios), abs=0.3)  # lengths are two octaves apart


def test_noise_widens_the_band_and_little_else() -> None:
    exact, found = calibrated(), calibrated(noise=0.1)
    assert found.report["stage_error"]["median"] < 0.1
    assert found.hardware.fastest < exact.hardware.fastest <= 1
    assert found.hardware.slowest > exact.hardware.slowest >= 1


def test_cells_set_aside_are_not_looked_at() -> None:
    first = calibrated()
    assert first.report["num_held_out"] == 4 and first.report["num_fitted"] == 8
    spoilt = copy.deepcopy(run_file())
    for cell in spoilt["cells"]:
        work = {"phase": cell["phase"], "length": cell["length"], "batch": cell["batch"]}
        if work | {"prefix": 0} in first.report["held_out"]:
            cell["stages_ns"] = {s: [7 * t for t in ts] for s, ts in cell["stages_ns"].items()}
    second = calibrate(spoilt)
    ours, theirs = (replace(c.hardware, fastest=1, slowest=1) for c in (first, second))
    assert ours == theirs
    assert second.report["stage_error"]["median"] > 0.8


def test_more_than_the_machine_can_is_warned_of() -> None:
    in_cache = replace(TRUTH, eta_elementwise=2.0, eta_reduction=2.0, eta_gemv=1.1)
    assert beyond(in_cache) == ""
    assert "eta_gemm 1.27, eta_gemv 1.50: above 1" in beyond(
        replace(TRUTH, eta_gemm=1.27, eta_gemv=1.5)
    )


def test_too_few_cells_are_refused() -> None:
    small = {**run_file(), "cells": run_file()["cells"][:5]}
    with pytest.raises(InputError, match="has 5 cells, and calibrating needs 6"):
        calibrate(small)


@pytest.mark.parametrize(
    ("key", "change", "named"),
    [
        ("limits", {}, "limits.matmul_flop_s, limits.read_bytes_s"),
        ("limits", {"matmul_flop_s": 0.0, "read_bytes_s": 1.0}, "limits.matmul_flop_s"),
        ("engine", {"device": "cpu", "dtype": "float32"}, "engine.switches"),
        ("engine", {"device": "cpu", "dtype": "int3", "switches": {}}, "engine.dtype"),
        ("engine", {"device": "cpu", "dtype": ["bfloat16"], "switches": {}}, "engine.dtype"),
        ("engine", {"device": "cpu", "dtype": "float32", "switches": "on"}, "engine.switches"),
        (
            "engine",
            {"device": "cpu", "dtype": "float32", "switches": {"chunked_prefill": "lots"}},
            "engine.switches.chunked_prefill",
        ),
        ("environment", {}, "environment.cpu"),
    ],
)
def test_what_a_run_lacks_is_named(key: str, change: Any, named: str) -> None:
    with pytest.raises(InputError, match=f"cannot be calibrated: {named} missing"):
        calibrate({**run_file(), key: change})


def test_cells_without_a_stage_to_fit_do_not_count() -> None:
    bare = [{**c, "stages_ns": {"other": c["wall_ns"]}} for c in run_file()["cells"]]
    with pytest.raises(InputError, match="has 0 cells"):
        calibrate({**run_file(), "cells": bare})


def test_a_calibration_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({**calibration_file(calibrated(), run_file()), "schema": 2}))
    with pytest.raises(
        InputError, match=r"schema 2 instead of 4.*make one with pellucid calibrate"
    ):
        find_hardware(str(path))


def test_a_calibration_serves_the_other_verbs(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, machine = tmp_path / "run.json", tmp_path / "machine.json"
    runfile.write(run_file(noise=0.05), run)
    assert main(["calibrate", "--run", str(run), "--json", str(machine)]) == 0
    assert "cells set aside" in capsys.readouterr().out
    assert find_hardware(str(machine)).kind == "calibrated"
    argv = ["--model", str(tiny_folder), "--hardware", str(machine), "--json", "-"]
    assert main(["model", *argv]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "calibrated"
    assert main(["crossover", *argv]) == 0
    assert json.loads(capsys.readouterr().out)["s10"]["kind"] == "calibrated"


def test_crossover_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.json"
    runfile.write(run_file(noise=0.05), run)
    assert main(["crossover", "--run", str(run), "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    s50 = record["s50"]
    assert s50["kind"] == "recorded" and s50["status"] == "found"
    assert s50["lo"] <= s50["value"] <= s50["hi"]
    assert main(["crossover", "--run", str(run)]) == 0
    assert "recorded, 4 lengths, n=5, 2026-01-01" in capsys.readouterr().out
    assert main(["crossover", "--run", str(run), "--batch", "9"]) == 2
    assert "has 0 lengths of decode at batch 9" in capsys.readouterr().err


def test_the_file_says_what_is_modelled_of_each_cell() -> None:
    run, found = run_file(), calibrated()
    file = calibration_file(found, run)
    assert [(c["phase"], c["length"], c["batch"]) for c in file["cells"]] == [
        (c["phase"], c["length"], c["batch"]) for c in run["cells"]
    ]
    assert sum(cell["held_out"] for cell in file["cells"]) == found.report["num_held_out"]
    for cell in file["cells"]:
        seconds = seconds_of(SPEC, cell["phase"], cell["batch"], CHOICES, found.hardware)
        for stage, told in cell["stages"].items():
            assert told["seconds"] == pytest.approx(seconds(cell["length"])[stage], rel=1e-3)
            assert told["bound"] in ("compute", "bandwidth", "launch", "host")
