"""bench/diminishing.py: which engines are compared, and a whole run with a tiny model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import claims
import diminishing
from diminishing import Step, needed, steps, working
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.explore.arms import with_changes
from pellucid.facts import MachineFacts
from pellucid.features import FEATURES
from pellucid.model.folder import spec_of_folder
from pellucid.resolve import resolve

MODEL = Path(__file__).parents[2] / "bench" / "models" / "qwen3-0.6b"
GPU = MachineFacts(gpu="NVIDIA H200", capability=(9, 0), has_triton=True)
WANTED = resolve(EngineConfig(), spec_of_folder(MODEL), GPU, frozenset({"BF16"})).switches
ON_GPU = ["kv_cache", "attention", "fused_kernels", "gemv", "sampler", "graphs", "overlap"]


def settings(on: Iterable[str]) -> dict[str, str]:
    on = {*on, *diminishing.BATCHES}
    return {f.key: WANTED[f.key] if f.key in on else f.off for f in FEATURES}


def test_a_switch_comes_with_what_it_needs() -> None:
    everything = frozenset(ON_GPU)
    assert needed("graphs", everything, settings) == {"attention"}
    assert needed("overlap", everything, settings) == {"kv_cache"}
    assert needed("gemv", everything, settings) == frozenset()
    assert working(everything - {"attention"}, settings) == everything - {"attention", "graphs"}


def test_a_comparison_changes_one_switch_and_every_engine_of_a_gpu_can_be_had() -> None:
    found = steps(ON_GPU, settings)
    assert [step.key for step in found] == ON_GPU * 3
    assert found[0] == Step("first", "kv_cache", frozenset())
    assert found[-1].after == frozenset(ON_GPU)
    spec = spec_of_folder(MODEL)
    for step in found:
        assert step.key not in step.before
        for on in (step.before, step.after):
            config = with_changes(EngineConfig(), settings(on))
            assert resolve(config, spec, GPU, frozenset({"BF16"})).switches == settings(on)


def test_a_whole_run(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "diminishing-tiny.json"
    argv = ["diminishing.py", "--model", str(tiny_folder), "--load-format", "dummy"]
    argv += ["--threads", "1", "--prompts", "8", "24", "--answer", "4", "--rounds", "2"]
    argv += ["--json", str(file)]
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr(diminishing, "own_process", lambda: None)  # this process is pytest's
    diminishing.main()
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["notes"] == [] and record["kept"] == ["batching", "chunked_prefill"]
    assert [work["prompt"] for work in record["workloads"]] == [8, 24]
    for work in record["workloads"]:
        assert work["rounds"] == 2
        assert {step["kind"] for step in work["steps"]} == {"first", "last", "ladder"}
    assert "prompt 24, answer 4, 2 rounds" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*argv, "--add"])
    diminishing.main()
    record = json.loads(file.read_text(encoding="utf-8"))
    for engine in record["workloads"][1]["engines"]:
        assert len(engine["ms_per_token"]["samples"]) == len(engine["prompt_s"]) == 4
    table = claims.workload_table(record, record["workloads"][0])
    assert "`kv_cache`" in table


def test_an_engine_that_does_not_run_leaves_its_comparisons_out(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(config: EngineConfig, changes: dict[str, str]) -> EngineConfig:
        if changes["attention"] == "naive" and changes["kv_cache"] == "on":
            raise InputError("not here")
        return with_changes(config, changes)

    monkeypatch.setattr(diminishing, "with_changes", refusing)
    config = EngineConfig(model=str(tiny_folder), load_format="dummy")
    bench = diminishing.Bench(config, [8], 4)
    assert bench.notes and all(note.endswith(": not here") for note in bench.notes)
    assert all("kv_cache" not in on or "attention" in on for on in bench.engines)
    bench.measure(3, limit_s=0.0)
    assert all(len(found) == 1 for found in bench.samples.values())


def measured(kind: str, key: str, factor: tuple[float, float], saved: tuple[float, float]) -> Any:
    def sample(ends: tuple[float, float]) -> dict[str, float]:
        return {"min": ends[0], "median": sum(ends) / 2, "max": ends[1]}

    return {"kind": kind, "switch": key, "factor": sample(factor), "saved_ms": sample(saved)}


def test_the_claim_is_judged_by_samples_that_do_not_overlap() -> None:
    work = {
        "steps": [
            measured("first", "weights", (1.9, 2.1), (50, 55)),
            measured("last", "weights", (4.0, 5.0), (7, 8)),
            measured("first", "attention", (1.4, 1.6), (5, 6)),
            measured("last", "attention", (1.5, 1.7), (3, 4)),
            measured("first", "gemv", (0.9, 1.1), (-1, 1)),
            measured("last", "gemv", (0.95, 1.05), (-1, 1)),
            measured("first", "graphs", (3, 4), (2, 3)),
        ]
    }
    assert claims.judged(work) == ["weights", "attention"]  # of the others nothing can be said
    assert claims.trend(work, "weights", "factor") == "larger"
    assert claims.trend(work, "weights", "saved_ms") == "smaller"
    assert claims.trend(work, "attention", "factor") == "open"
    assert claims.diminishing_verdict(Counter(smaller=2, open=1)) == "holds"
    assert claims.diminishing_verdict(Counter(smaller=2, larger=1)) == "holds in part"
    assert claims.diminishing_verdict(Counter(larger=1, open=3)) == "does not hold"
