"""What the page's tests take for the server's counts is what the server counts today."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest


def load_maker() -> Any:
    path = Path(__file__).parents[1] / "golden" / "make_page.py"
    spec = importlib.util.spec_from_file_location("make_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
STALE = "run: python tests/golden/make_page.py"
TEXTS: dict[Path, str] = dict(maker.texts())


def same(a: Any, b: Any) -> bool:
    """Equal, but for the last digits of floats."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12)
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_the_counts_are_those_of_today(path: Path) -> None:
    assert path.exists(), STALE
    assert same(json.loads(path.read_text()), json.loads(TEXTS[path])), STALE


def test_there_are_no_others() -> None:
    assert set(maker.FOLDER.glob("counts-*.json")) == set(TEXTS), STALE


def test_a_changed_number_is_noticed() -> None:
    """Else the test above would say nothing."""
    for text in TEXTS.values():
        counts = json.loads(text)
        kernels = counts["cells"][0]["stages"]["lm_head"]
        kernels[0]["bytes"] *= 1 + 1e-9
        assert not same(counts, json.loads(text))
