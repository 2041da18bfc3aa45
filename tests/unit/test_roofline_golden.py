"""What the page's model is checked against is what the model says today."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pellucid.explore.roofline import MODELLED
from pellucid.explore.work import Choices


def load_maker() -> Any:
    path = Path(__file__).parents[1] / "golden" / "make_roofline.py"
    spec = importlib.util.spec_from_file_location("make_roofline", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
GOLDEN: dict[str, Any] = json.loads(maker.VECTORS.read_text())
STALE = "run: python tests/golden/make_roofline.py"


def same(a: Any, b: Any) -> bool:
    """Equal, but for the last digits of floats."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize(("kind", "least"), [("budgets", 500), ("crossovers", 50), ("effects", 40)])
def test_every_vector_is_what_the_model_finds(kind: str, least: int) -> None:
    answer = {
        "budgets": maker.budget_of,
        "crossovers": maker.crossings_of,
        "effects": maker.effects_of,
    }[kind]
    vectors = GOLDEN[kind]
    assert len(vectors) >= least
    for i, vector in enumerate(vectors):
        assert same(answer(vector["given"]), vector["found"]), f"{kind}[{i}] is stale; {STALE}"


def test_names_defaults_and_data_sheets_are_those_of_today() -> None:
    assert GOLDEN["stages"] == list(MODELLED), STALE
    assert GOLDEN["defaults"] == asdict(Choices()), STALE
    assert GOLDEN["machines"] == maker.machines(), STALE
    assert json.loads(maker.SHEETS.read_text()) == maker.sheets(), STALE


def test_the_switches_of_the_page_are_those_of_the_switchboard() -> None:
    written = json.loads(maker.SWITCHES.read_text())
    assert written == maker.switches(), STALE
    assert {row["key"]: row["off"] for row in written}["kv_cache"] == "off"
    assert any(row["conflicts"] for row in written)


def test_some_vector_turns_off_what_another_switch_needs() -> None:
    def depends(vector: dict[str, Any]) -> bool:
        choices = vector["given"]["choices"]
        return choices["overlap"] == choices["kv_cache"] == "on" and "kv_cache" in vector["found"]

    assert any(map(depends, GOLDEN["effects"])), "no vector looks at conflicts"
