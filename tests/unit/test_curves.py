"""Curves along the length: each is what the cost model says, and the right ones stand beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_calibrate import CHOICES, SPEC, TRUTH
from test_resolve import CPU
from test_resolve import H100 as MACHINE
from test_resolve import SPEC as SMALL
from test_roofline import LLAMA_8B

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.explore.alternatives import FEWEST_CHUNK, Setup, setup_of
from pellucid.explore.crossover import grid
from pellucid.explore.curves import Question, check_hardware, check_spec, curves_of
from pellucid.explore.peaks import find_hardware
from pellucid.explore.roofline import MODELLED, Prices, stage_seconds
from pellucid.explore.steps import MANY_PIECES, spread_over
from pellucid.explore.work import load_of
from pellucid.explore.workload import Choices, Workload, settled
from pellucid.features import FEATURES, by_key
from pellucid.resolve import resolve

H100 = find_hardware("h100")
ON_GPU = setup_of(Choices(), "cuda")
ON_CPU = setup_of(CHOICES, "cpu")


def question(**changes: Any) -> Question:
    given: dict[str, Any] = {"name": "small", "spec": SPEC, "hardware": TRUTH, "setting": ON_CPU}
    return Question(**(given | changes))


# Curves


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_curve_is_what_the_cost_model_says(phase: Any, batch: int) -> None:
    found = curves_of(question(scope=phase, batch=batch, lengths=(1000, 9000)))
    assert found["lengths"] == sorted({*grid(8192), 1000}), "9000 lies outside the context"
    assert found["stages"] == list(MODELLED)
    for curve in found["curves"]:
        changes = {curve["switch"]: curve["value"]} if curve["switch"] else {}
        choices = ON_CPU.changed(changes).choices
        for length in (1, 1000, 8192):
            work = Workload(phase=phase, length=length, batch=batch)
            wanted = stage_seconds(load_of(SPEC, work, choices, "cpu"), TRUTH)
            row = curve["seconds"][found["lengths"].index(length)]
            assert dict(zip(MODELLED, row, strict=True)) == pytest.approx(wanted, rel=1e-4)


def test_a_request_is_its_prompt_and_its_steps() -> None:
    found = curves_of(question(scope="request", num_outputs=4), alternatives=False)
    assert max(found["lengths"]) == 8192 - 3, "the answer's tokens need room too"
    [curve] = found["curves"]
    prices = Prices(SPEC, CHOICES, TRUTH)
    work = [Workload(phase="prefill", length=256)]
    work += [Workload(phase="decode", length=256 + n) for n in (1, 2, 3)]
    wanted = {s: sum(prices.seconds(w)[s] for w in work) for s in MODELLED}
    row = dict(zip(MODELLED, curve["seconds"][found["lengths"].index(256)], strict=True))
    assert row == pytest.approx(wanted, rel=1e-3)
    assert "a whole request's time" in curve["answer"]["sentence"]


def test_the_first_curve_has_a_band_and_the_others_have_none() -> None:
    first, *others = curves_of(question(hardware=replace(TRUTH, slowest=1.5)))["curves"]
    assert first["answer"]["s10"]["lo"] is not None
    assert all(curve["answer"]["s10"]["lo"] is None for curve in others)


def test_a_request_longer_than_the_context_is_refused() -> None:
    with pytest.raises(InputError, match="leaves no room for a prompt in a context of 8192"):
        question(scope="request", num_outputs=8193)


@given(
    nodes=st.lists(st.integers(0, 200), min_size=1, max_size=8, unique=True).map(sorted),
    ends=st.tuples(st.integers(0, 200), st.integers(0, 200)),
)
def test_numbers_spread_over_nodes(nodes: list[int], ends: tuple[int, int]) -> None:
    """The sum of a straight line over them is exact, and there are as many as there were."""
    first, last = ends
    found = spread_over(nodes, first, last)
    assert sum(count for _, count in found) == pytest.approx(max(0, last - first + 1))
    inside = [min(max(n, nodes[0]), nodes[-1]) for n in range(first, last + 1)]
    line = sum(count * (3 * node + 1) for node, count in found)
    assert line == pytest.approx(sum(3 * n + 1 for n in inside))


@pytest.mark.parametrize("length", [512 * MANY_PIECES, 512 * 300 + 7])
def test_a_prompt_in_many_pieces_costs_what_all_of_them_cost(length: int) -> None:
    """Some pieces stand for all; counted one by one, by a prefix each, they take the same."""
    found = Prices(SPEC, CHOICES, TRUTH).seconds(Workload(phase="prefill", length=length))
    prices, total = Prices(SPEC, replace(CHOICES, chunked_prefill=0), TRUTH), 0.0
    for begin in range(0, length, 512):
        piece = Workload(phase="prefill", length=min(512, length - begin), prefix=begin)
        total += prices.seconds(piece)["attention"]
    assert found["attention"] == pytest.approx(total, rel=0.01)


# Neighbours


def test_the_neighbours_on_a_cpu() -> None:
    found = {(key, value) for key, value, _ in ON_CPU.one_away()}
    chunks = [c for c in by_key("chunked_prefill").choices if c not in ("512", "7", "1")]
    assert found == {
        ("kv_cache", "off"), ("attention", "sdpa"), ("attention", "naive"), ("weights", "dense"),
        ("fused_kernels", "off"), *(("chunked_prefill", chunk) for chunk in chunks),
    }  # fmt: skip


def test_a_switch_takes_those_along_that_need_it() -> None:
    def gone(key: str, value: str) -> dict[str, str]:
        after = ON_GPU.changed({key: value}).switches
        return {k: v for k, v in after.items() if v != ON_GPU.switches[k] and k != key}

    assert gone("attention", "naive") == gone("attention", "sdpa") == {"graphs": "off"}
    assert gone("kv_cache", "off") == {"overlap": "off"}
    assert gone("gemv", "off") == {}


def test_and_back_again() -> None:
    """What went off for a reason alone comes back; what was set off stays off."""
    for key, value in (("attention", "naive"), ("kv_cache", "off")):
        there = ON_GPU.changed({key: value})
        assert there.changed({key: ON_GPU.switches[key]}) == ON_GPU
    slow = ON_GPU.changed({"overlap": "off"})
    assert slow.changed({"kv_cache": "off"}).changed({"kv_cache": "on"}).switches["overlap"] == "on"


def test_weights_are_known_where_a_file_has_packed_ones() -> None:
    dense = Setup(settled(Choices(), "cpu"), "cpu")
    assert "weights" not in dense.switches and dense.changed({"weights": "packed"}) == dense
    assert ON_CPU.switches["weights"] == "packed"
    there = ON_CPU.changed({"weights": "dense"})
    assert there.choices.weight_bytes == there.choices.activation_bytes
    assert there.changed({"weights": "packed"}) == ON_CPU


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_neighbour_is_one_that_the_engine_has(device: str) -> None:
    """By `resolve`, with everything that it does not name left at `auto`."""
    setting, machine = (ON_GPU, MACHINE) if device == "cuda" else (ON_CPU, CPU)
    for key, value, there in setting.one_away():
        if key in ("weights", "chunked_prefill"):
            continue  # sizes, not ways
        resolved = resolve(EngineConfig(**dict[str, Any]({key: value})), SMALL, machine)
        for name in ("attention", "kv_cache", "fused_kernels", "graphs", "overlap"):
            assert there.switches[name] == getattr(resolved, name), (key, value, name)


def test_pieces_that_are_steps_by_the_thousand_are_not_tried() -> None:
    assert not ON_CPU.can("chunked_prefill", "7") and ON_CPU.can("chunked_prefill", "64")
    assert FEWEST_CHUNK == 64
    with pytest.raises(InputError, match="chunked_prefill must be a whole number, not 'few'"):
        ON_CPU.changed({"chunked_prefill": "few"})


def test_what_the_cost_model_does_not_know_is_said() -> None:
    found = curves_of(question(), alternatives=False)
    assert found["not_modelled"] == ["batching", "sampler"]
    known = set(found["curves"][0]["switches"])
    assert known | set(found["not_modelled"]) == {feature.key for feature in FEATURES}


# What strangers send


@pytest.mark.parametrize(
    "change", [{"num_layers": 0}, {"vocab_size": -1}, {"head_dim": 1 << 30}, {"num_layers": 10**6}]
)
def test_shapes_that_no_arithmetic_survives(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        check_spec(replace(LLAMA_8B, **change))


@pytest.mark.parametrize(
    "change", [{"flop_s": 0.0}, {"eta_gemm": -1.0}, {"launch_s": -1e-9}, {"bytes_s": math.inf}]
)
def test_machines_that_no_arithmetic_survives(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"hardware.{next(iter(change))} cannot be"):
        check_hardware(replace(H100, **change))
    check_hardware(replace(H100, launch_s=0.0, host_s=0.0))
