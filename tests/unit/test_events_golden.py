"""What the page's replay is checked against is what the scheduler tells today."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any


def load_maker() -> Any:
    path = Path(__file__).parents[1] / "golden" / "make_events.py"
    spec = importlib.util.spec_from_file_location("make_events", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()


def test_recordings_are_what_the_scheduler_tells() -> None:
    made = json.loads(json.dumps(maker.make_all()))
    golden = json.loads(maker.VECTORS.read_text())
    assert made == golden, "run: python tests/golden/make_events.py"


def test_they_have_what_the_page_is_tested_with() -> None:
    golden = json.loads(maker.VECTORS.read_text())
    small = [each for news in golden["small"]["file"]["news"] for each in news.get("happened", [])]
    assert {each["type"] for each in small} == {"queued", "admitted", "planned", "landed", "left"}
    assert {e["why"] for e in small if e["type"] == "left"} == {"preempted", "finished", "aborted"}
    assert any(each["type"] == "admitted" and each["shared"] for each in small)
    again = [e for news in golden["recompute"]["file"]["news"] for e in news.get("happened", [])]
    assert any(each["type"] == "forgot" for each in again)
