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
from pellucid.explore.work import Load, load_of
from pellucid.explore.workload import Choices, Workload


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


def load(given: dict[str, Any]) -> Load:
    work, choices = Workload(**given["workload"]), Choices(**given["choices"])
    return load_of(maker.spec_of(given), work, choices, given["hardware"]["device"])


def test_replaying_is_seen_where_steps_have_few_tokens() -> None:
    """Prompts with `graphs` on and off; 10,000 tokens are a step of 8192 and one of 1808."""
    seconds: dict[tuple[int, int], dict[tuple[int, str], float]] = {}
    for vector in GOLDEN["budgets"]:
        given, work = vector["given"], vector["given"]["workload"]
        if given["hardware"]["name"] == "slow host" and work["phase"] == "prefill":
            asked = given["spec"]["hidden_size"], given["choices"]["graphs"]
            lengths = work["length"], work["batch"]
            seconds.setdefault(lengths, {})[asked] = vector["found"]["seconds"]
    assert {(4096, 1), (4097, 1), (1024, 4), (1024, 5), (10_000, 1)} == seconds.keys()
    for (length, batch), found in seconds.items():
        is_replayed = length * batch <= 4096 or length == 10_000
        for shape in maker.SHAPES.values():
            on, off = (found[shape["hidden_size"], graphs] for graphs in ("on", "off"))
            assert on < off if is_replayed else on == off


def test_at_batch_4_some_models_are_multiplied_by_gemv_and_some_in_part() -> None:
    """How many products of a layer, or of the head, are made by kernels of ours and of a library;
    models by the size of their hidden states."""
    makers: dict[int, set[tuple[float, float]]] = {}
    for vector in GOLDEN["budgets"]:
        given = vector["given"]
        if given["workload"]["batch"] == 4 and given["workload"]["phase"] == "decode":
            for group in load(given).groups:
                products = [work for work in group.works if work.kind == "matrix"]
                counts = sum(w.launches for w in products), sum(w.calls for w in products)
                makers.setdefault(given["spec"]["hidden_size"], set()).add(counts)
    of_ours, of_the_library = (4, 0), (0, 1)  # a small layer; a head
    assert makers[4096] == {(1, 3), of_the_library}, "Llama-8B: o alone"
    assert makers[1024] == {of_ours, of_the_library}


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


def test_the_words_of_the_page_are_those_of_the_cost_model() -> None:
    assert json.loads(maker.WORDS.read_text()) == maker.words(), STALE


def test_some_vector_turns_off_what_another_switch_needs() -> None:
    def depends(vector: dict[str, Any]) -> bool:
        choices = vector["given"]["choices"]
        return choices["overlap"] == choices["kv_cache"] == "on" and "kv_cache" in vector["found"]

    assert any(map(depends, GOLDEN["effects"])), "no vector looks at conflicts"
