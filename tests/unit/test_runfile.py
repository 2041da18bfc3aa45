"""The run file: what goes in comes out, and what was changed is refused by name."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pellucid.errors import InputError
from pellucid.explore import runfile
from pellucid.model.spec import ModelSpec, RopeScaling

SPEC = ModelSpec(
    family="llama",
    vocab_size=96,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    context_length=128,
    norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=RopeScaling(kind="llama3", factors=(1.0, 8.5)),
    local_layers=(True, False),
)


def cell(**changes: Any) -> dict[str, Any]:
    """Two blocks: attention takes a tenth and a fifth of them."""
    return {
        "phase": "decode",
        "length": 64,
        "batch": 1,
        "num_steps": 8,
        "wall_ns": [1000, 1000],
        "timed_wall_ns": [1100, 1300],
        "stages_ns": {"attention": [100, 200], "mlp": [860, 830], "other": [40, -30]},
    } | changes


def record(**changes: Any) -> runfile.Record:
    content = {
        "environment": {"cpu": "any", "load_average": (0.5, 1.0, 2.0)},
        "model": {"name": "tiny", "spec": asdict(SPEC)},
        "engine": {"device": "cpu"},
        "config": {"model": "tiny"},
        "weight_bytes": 1000,
        "kv_bytes_per_token": 64,
        "limits": {"read_bytes_s": 3.5e10, "matmul_flop_s": 4e11},
        "settings": {"seed": 0},
        "cells": [cell()],
        "closure": 0.005,
        "instrument_ratio": 1.2,
        "worst_instrument_ratio": 1.2,
        "interrupted": False,
    }
    return runfile.seal(content | changes)


def refusal(changed: Any, path: Path) -> str:
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError) as caught:
        runfile.read(path)
    message = str(caught.value)
    assert str(path) in message, "names the file"
    assert ": " in message.removeprefix(str(path)), "says what to do"
    return message


# --- on disk -------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path, sealed = tmp_path / "run.json", record()
    runfile.write(sealed, path)
    assert runfile.read(path) == sealed
    assert runfile.spec_of(sealed) == SPEC
    assert list(tmp_path.iterdir()) == [path], "nothing else is left behind"
    assert sealed["id"] == runfile.content_id(sealed)
    assert len(sealed["id"]) == 64


def test_the_id_is_that_of_the_values(tmp_path: Path) -> None:
    sealed = record()
    backwards = dict(reversed(sealed.items()))
    assert runfile.content_id(backwards) == sealed["id"]
    # JavaScript writes 35000000000 for 3.5e10.
    limits = {name: int(rate) for name, rate in sealed["limits"].items()}
    assert runfile.content_id(sealed | {"limits": limits}) == sealed["id"]
    assert record(interrupted=True)["id"] != sealed["id"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sealed = tmp_path / "run.json", record()
    runfile.write(sealed, path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(InputError, match=r"cannot write .*run\.json: No space left on device"):
        runfile.write(record(interrupted=True), path)
    assert runfile.read(path) == sealed
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_is_said_beforehand(tmp_path: Path) -> None:
    runfile.check_writable(tmp_path / "run.json")
    with pytest.raises(InputError, match="it is a folder"):
        runfile.check_writable(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        runfile.check_writable(tmp_path / "no" / "run.json")


# --- what is refused -----------------------------------------------------------------------------


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    changed = record() | {"weight_bytes": 999}
    assert "was changed after it was written" in refusal(changed, tmp_path / "run.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema must be 1, not 2"),
        ({"closure": "small"}, "Expected `float`, got `str` - at `$.closure`"),
        ({"cells": []}, "at `$.cells`"),
        ({"cells": [cell(phase="warp")]}, "at `$.cells[0].phase`"),
        ({"cells": [cell(length=0)]}, "at `$.cells[0].length`"),
        ({"cells": [cell(timed_wall_ns=[1])]}, "cells[0].timed_wall_ns has 1 samples where"),
        ({"cells": [cell(stages_ns={"mlp": [1000]})]}, "cells[0].stages_ns.mlp has 1 samples"),
        ({"cells": [cell(stages_ns={"mlp": [1000] * 2})]}, "cells[0].stages_ns has no other"),
        ({"cells": [cell(wall_ns=[1000, 999])]}, "stages_ns do not add up to wall_ns"),
        ({"cells": [cell(wall_ns=[1000, 0])]}, "at `$.cells[0].wall_ns[1]`"),
        (
            {
                "cells": [
                    cell(),
                    cell(wall_ns=[9], timed_wall_ns=[9], stages_ns={"mlp": [8], "other": [1]}),
                ]
            },
            "cells have different numbers of blocks",
        ),
        ({"model": {"name": "tiny", "spec": {}}}, "missing required field `family`"),
    ],
    ids=lambda v: "" if isinstance(v, str) else json.dumps(v)[:30],
)
def test_a_bad_field_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in refusal(record() | changes, tmp_path / "run.json")


def test_what_is_no_run_file_is_named(tmp_path: Path) -> None:
    assert "holds no JSON object" in refusal([1], tmp_path / "list.json")
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(record())[:-20])
    with pytest.raises(InputError, match=r"cut\.json is not JSON"):
        runfile.read(cut)
    cut.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"cut\.json is not UTF-8"):
        runfile.read(cut)
    with pytest.raises(InputError, match=r"cannot read .*none\.json: No such file"):
        runfile.read(tmp_path / "none.json")


# --- what the samples say ------------------------------------------------------------------------


@given(st.lists(st.floats(0.1, 1e9), min_size=1, max_size=20), st.integers(0, 9))
def test_an_interval_holds_its_median(samples: list[float], seed: int) -> None:
    value, lo, hi = found = runfile.interval(samples, seed)
    assert min(samples) <= lo <= value <= hi <= max(samples)
    assert value == statistics.median(samples)
    assert runfile.interval(samples, seed) == found


def test_an_interval_tightens_with_more_blocks() -> None:
    few = runfile.interval([8.0, 9.0, 10.0, 11.0, 12.0])
    many = runfile.interval([8.0, 9.0, 10.0, 11.0, 12.0] * 20)
    assert many.hi - many.lo < few.hi - few.lo


def test_shares_add_up_to_one_and_none_is_more() -> None:
    """Also where the timed run was slower than the plain one, or its stages longer than itself."""
    slow = cell(timed_wall_ns=[2000, 900], stages_ns={"mlp": [1500, 950], "other": [-500, 50]})
    for one in (cell(), slow):
        stages = [runfile.shares(one, stage) for stage in one["stages_ns"]]
        assert [sum(shares) for shares in zip(*stages, strict=True)] == pytest.approx([1.0, 1.0])
        assert all(0 <= share <= 1 for shares in stages for share in shares)
    assert runfile.shares(slow, "mlp") == pytest.approx([0.75, 1.0])


def test_the_figures_of_a_cell() -> None:
    one = cell()
    assert runfile.shares(one, "attention") == pytest.approx([100 / 1100, 200 / 1300])
    assert runfile.shares(one, "draft") == [0.0, 0.0], "a stage that did not run"
    assert runfile.instrument_ratio(one) == pytest.approx(1.2)
    assert runfile.closure([one]) == pytest.approx(0.005)
    worse = cell(stages_ns={"mlp": [1080, 1100], "other": [-80, -100]})
    assert runfile.closure([one, worse]) == pytest.approx(0.09)
    assert runfile.variation([5.0]) == 0
    assert runfile.variation([9.0, 11.0]) == pytest.approx(2**0.5 / 10)
    assert runfile.with_median(one)["median"]["stages_ns"]["attention"] == 150
