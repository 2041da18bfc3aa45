"""The runs that a server has: kept on disk, and recorded ones to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, fake_measure

from pellucid.explore import runfile
from pellucid.server import runs as module
from pellucid.server.runs import Runs, device_of

HERE = "a fake"
"""The device of what `fake_measure` makes."""


def measured(date: str = "2026-01-02T03:04:05") -> runfile.Record:
    run, _ = fake_measure(FakeEngine(), {"lengths": [64, 256]}, lambda *args: None)
    run["environment"]["date"] = date
    return runfile.seal({key: value for key, value in run.items() if key not in ("schema", "id")})


def ids(found: list[module.Known]) -> list[str]:
    return [known.run["id"] for known in found]


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHIPPED", ())


def test_a_fresh_server_has_the_recorded_ones() -> None:
    found = Runs().best_first("this machine", "smollm2", on_gpu=False)
    assert {known.kind for known in found} == {"recorded"}
    assert found[0].run["model"]["name"] == "smollm2"
    on_gpu = Runs().best_first("NVIDIA H200", "mine", on_gpu=True)
    assert [device_of(known.run)[:11] for known in on_gpu[:2]] == ["NVIDIA H100"] * 2


def test_the_package_carries_what_a_checkout_has() -> None:
    """The list in pyproject.toml is that of the files."""
    root = Path(__file__).parents[2]
    listed = (root / "pyproject.toml").read_text()
    for path in (root / "bench" / "results").glob("run-*.json"):
        assert f'"bench/results/{path.name}" = "pellucid/recorded/{path.name}"' in listed


def test_runs_are_there_again(tmp_path: Path, nothing_shipped: None) -> None:
    folder = tmp_path / "runs"
    old, new = measured("2026-01-02T03:04:05"), measured("2026-01-02T03:04:06")
    first = Runs(folder)
    for run in (old, new):
        first.keep(run)
    again = Runs(folder)
    assert ids(again.best_first(HERE, "fake", on_gpu=False)) == [new["id"], old["id"]]
    known = again.get(old["id"], HERE)
    assert known and known.run == old and known.kind == "measured"
    elsewhere = again.get(old["id"], "another machine")
    assert elsewhere and elsewhere.kind == "recorded", "a home folder may be shared"
    assert again.get("none", HERE) is None


def test_of_two_runs_of_one_second_the_later_comes_first(nothing_shipped: None) -> None:
    runs, several = Runs(), [measured() for _ in range(2)]
    several[1]["settings"] = {"seed": 1}
    several[1] = runfile.seal({k: v for k, v in several[1].items() if k not in ("schema", "id")})
    for run in several:
        runs.keep(run)
    assert ids(runs.best_first(HERE, "fake", on_gpu=False)) == [several[1]["id"], several[0]["id"]]


def test_the_oldest_goes_first(tmp_path: Path, nothing_shipped: None) -> None:
    runs = Runs(tmp_path, most=2)
    several = [measured(f"2026-01-02T03:04:0{second}") for second in range(4)]
    for run in several:
        runs.keep(run)
    assert ids(runs.best_first(HERE, "fake", on_gpu=False)) == [
        several[3]["id"],
        several[2]["id"],
    ]
    assert len(list(tmp_path.iterdir())) == 2
    runs.keep(several[2])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_left_out(
    tmp_path: Path, nothing_shipped: None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = measured()
    Runs(tmp_path).keep(whole)
    (tmp_path / "0-cut.json").write_text(json.dumps(whole)[:100])
    (tmp_path / "1-other.json").write_text("[]")
    (tmp_path / "2-bytes.json").write_bytes(b"\xff\xfe")
    assert ids(Runs(tmp_path).best_first(HERE, "fake", on_gpu=False)) == [whole["id"]]
    assert caplog.text.count("left out") == 3


def test_a_disk_that_takes_nothing_loses_nothing(
    tmp_path: Path, nothing_shipped: None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    runs, run = Runs(tmp_path / "file" / "runs"), measured()
    runs.keep(run)
    assert runs.get(run["id"], HERE)
    assert "not kept on disk" in caplog.text


def test_what_a_list_says(server: Any) -> None:
    rows = server.http().get("/explorer/v1/runs").json()["runs"]
    recorded = next(row for row in rows if row["kind"] == "recorded")
    assert set(recorded["phases"]) == {"decode", "prefill"}
    assert recorded["switches"]["kv_cache"] == "on"
