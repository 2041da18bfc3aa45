"""The model against recorded runs: its errors may fall, not rise.

Each `bench/results/calibrated-*.json` was written by `pellucid calibrate` from a recorded run; here
the fit is done again, by the code as it is now, and judged by the same cells set aside.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.explore import runfile
from pellucid.explore.calibrate import calibrate

RESULTS = Path(__file__).parents[2] / "bench" / "results"
CALIBRATED = sorted(RESULTS.glob("calibrated-*.json"))
WORSE = 1.05
"""An error may grow by so much before it counts."""
FIGURES = (("stage_error", "median"), ("share_error_points", "median"), ("step_error", "median"))


def test_there_is_something_to_compare_with() -> None:
    assert CALIBRATED


@pytest.mark.parametrize("path", CALIBRATED, ids=lambda path: path.stem)
def test_the_errors_have_not_grown(path: Path) -> None:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    run = runfile.read(path.with_name(path.name.replace("calibrated-", "run-")))
    assert recorded["run"] == run["id"], "calibrated from another run"
    report, now = recorded["report"], calibrate(run, recorded["report"]["seed"]).report
    assert now["held_out"] == report["held_out"]
    for figure, statistic in FIGURES:
        before, after = report[figure][statistic], now[figure][statistic]
        assert after <= before * WORSE + 1e-9, f"{figure}: {after:.3f}, was {before:.3f}"
