"""Where attention's share crosses a line: modelled, measured, and when it does not."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.cli import main
from pellucid.explore.crossover import (
    crossing,
    crossing_of_points,
    grid,
    isotonic,
    measured,
    modelled,
    monotone_cubic,
    read_off,
    valley,
)
from pellucid.explore.roofline import Budget, Hardware, budget
from pellucid.explore.work import num_layer_weights
from pellucid.explore.workload import Choices, Workload
from pellucid.model.spec import ModelSpec

LLAMA_8B = ModelSpec(
    family="llama", vocab_size=128_256, hidden_size=4096, intermediate_size=14_336,
    num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128, context_length=131_072,
    norm_eps=1e-5, rope_theta=5e5,
)  # fmt: skip
HOST_S = 2e-4
H100 = Hardware(
    name="h100", flop_s=989e12, bytes_s=3.35e12, host_s=HOST_S, eta_gemm=0.7, eta_gemv=0.82,
    eta_attention_flops=0.7, eta_attention_bytes=0.82, fastest=0.9, slowest=1.2,
)  # fmt: skip
SERIAL = Choices(overlap="off")
LIMIT = 131_072


def seconds(
    length: int, choices: Choices = SERIAL, spec: ModelSpec = LLAMA_8B
) -> Mapping[str, float]:
    return {stage: cost.seconds for stage, cost in h100(length, choices, spec).stages.items()}


def h100(length: int, choices: Choices = SERIAL, spec: ModelSpec = LLAMA_8B) -> Budget:
    return budget(spec, Workload(phase="decode", length=length), choices, H100)


def test_the_modelled_crossing_is_that_of_the_closed_form() -> None:
    """S_p = p/(1-p) · (weights + host · bandwidth) / KV bytes, when bandwidth bounds all."""
    weights = 2 * (num_layer_weights(LLAMA_8B) + 128_256 * 4096)
    rest = weights + HOST_S * H100.bytes_s * H100.eta_gemv
    found = modelled(seconds, H100, LIMIT)
    for name, part in (("s05", 0.05), ("s10", 0.1), ("s50", 0.5)):
        value = found[name].value
        assert value is not None and value == pytest.approx(
            part / (1 - part) * rest / 131_072, rel=2e-3
        )
        assert h100(value).share() >= part > h100(value - 1).share()
        assert found[name].status == "found" and found[name].kind == "spec"


def test_the_band_holds_the_crossing() -> None:
    s10 = modelled(seconds, H100, LIMIT)["s10"]
    assert s10.lo is not None and s10.value is not None and s10.hi is not None
    assert s10.lo == pytest.approx(s10.value * 0.9 / 1.2, rel=0.01)
    assert s10.hi == pytest.approx(s10.value * 1.2 / 0.9, rel=0.01)


def test_a_window_may_keep_the_share_down_for_ever() -> None:
    windowed = replace(LLAMA_8B, sliding_window=4096)
    s10 = modelled(lambda n: seconds(n, spec=windowed), H100, LIMIT)["s10"]
    assert s10.value is None and s10.status == "never up to 131072"


@pytest.mark.parametrize(
    ("share", "value", "status"),
    [
        (lambda s: 0.3, 1, "already at 1"),
        (lambda s: 0.05, None, "never up to 1000"),
        (lambda s: s / (s + 900), 100, "found"),
        (lambda s: 0.2 if s < 50 else s / (s + 900), 100, "found"),  # a dip ends the first one
        (lambda s: 0.0 if s == 1000 else 0.5, None, "never up to 1000"),
    ],
)
def test_what_a_share_can_come_to(share: object, value: int | None, status: str) -> None:
    assert crossing(share, 0.1, 1000) == (value, status)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_isotonic_rises_and_keeps_the_mean(values: list[float]) -> None:
    found = isotonic(values)
    assert all(b >= a for a, b in pairwise(found))
    assert math.fsum(found) == pytest.approx(math.fsum(values), abs=1e-9)
    assert isotonic(sorted(values)) == sorted(values)


shares = st.floats(0, 1)


@given(st.lists(shares, max_size=12), st.lists(shares, min_size=1, max_size=12))
def test_what_falls_and_then_rises_is_left_as_it_is(down: list[float], up: list[float]) -> None:
    values = [*sorted(down, reverse=True), *sorted(up)]
    assert valley(values) == pytest.approx(values, abs=1e-12)


@given(st.lists(shares, min_size=1, max_size=12))
def test_a_valley_has_one_turn_and_is_nearer_than_a_line_that_rises(values: list[float]) -> None:
    def error(fit: list[float]) -> float:
        return math.fsum((a - b) ** 2 for a, b in zip(values, fit, strict=True))

    found = valley(values)
    signs = [b > a for a, b in pairwise(found) if a != b]
    assert math.fsum(found) == pytest.approx(math.fsum(values), abs=1e-9)
    assert sum(a and not b for a, b in pairwise(signs)) <= 1
    assert error(found) <= error(isotonic(values)) + 1e-12


def test_the_last_crossing_counts_where_the_share_falls_first() -> None:
    """Short prompts whose time is that of starting kernels: attention's part of those is no sign
    of length."""
    lengths = [64, 128, 256, 512, 1024, 2048, 4096]
    shares = [0.25, 0.26, 0.24, 0.15, 0.06, 0.09, 0.16]
    found = measured({n: [s, s] for n, s in zip(lengths, shares, strict=True)}, "measured", 8192)
    assert found["s10"].status == "found"
    assert 2048 < (found["s10"].value or 0) < 2500
    assert found["s05"].status == "already at 64"


@given(
    st.lists(
        st.tuples(st.floats(0.1, 5), st.floats(0, 1).map(lambda v: round(v, 6))),
        min_size=2,
        max_size=12,
    )
)
def test_the_cubic_goes_through_its_points_and_never_falls(
    steps: list[tuple[float, float]],
) -> None:
    x = [sum(w for w, _ in steps[:i]) for i in range(len(steps))]
    y = [sum(r for _, r in steps[:i]) for i in range(len(steps))]
    curve = monotone_cubic(x, y)
    assert [curve(at) for at in x] == pytest.approx(y, abs=1e-9)
    values = [curve(x[0] + (x[-1] - x[0]) * i / 200) for i in range(201)]
    assert all(b >= a - 1e-9 for a, b in pairwise(values))


GRID = [2**i for i in range(6, 13)]


def share(length: float, half: float = 4000) -> float:
    return length / (length + half)


def noisy(lengths: list[int], num_blocks: int, noise: float) -> dict[int, list[float]]:
    rng = random.Random(1)
    return {n: [share(n) * rng.gauss(1, noise) for _ in range(num_blocks)] for n in lengths}


def test_measured_shares_find_the_crossing_and_its_interval() -> None:
    s10 = measured(noisy(GRID, 12, 0.03), "measured", LIMIT)["s10"]
    truth = 4000 / 9
    assert s10.status == "found" and s10.kind == "measured"
    assert s10.lo is not None and s10.hi is not None and s10.value is not None
    assert s10.lo <= s10.value <= s10.hi
    assert s10.lo < truth < s10.hi
    assert s10.hi / s10.lo < 1.2
    assert measured(noisy(GRID, 12, 0.03), "measured", LIMIT)["s10"] == s10  # seeded


def test_one_block_has_no_interval() -> None:
    s10 = measured(noisy(GRID, 1, 0.0), "recorded", LIMIT)["s10"]
    assert s10.value == pytest.approx(4000 / 9, rel=0.01)
    assert (s10.lo, s10.hi) == (None, None)


def test_beyond_the_lengths_a_line_is_drawn() -> None:
    lengths = [8, 16, 32, 64]
    found = crossing_of_points(lengths, [share(n) for n in lengths], 0.1, LIMIT)
    assert found.status == "extrapolated"
    assert found.value == pytest.approx(4000 / 9, abs=1)


@pytest.mark.parametrize(
    ("lengths", "shares", "found"),
    [
        ([1, 2, 4], [0.2, 0.3, 0.4], (1, "already at 1")),
        ([64, 128, 256], [0.01, 0.01, 0.01], (None, "never up to 131072")),
        ([64, 128, 256], [0.0001, 0.0002, 0.0004], (70_000, "extrapolated")),
        ([64, 128, 256], [0.00001, 0.00002, 0.00004], (None, "never up to 131072")),
        ([64, 128], [1.0, 1.0], (64, "already at 64")),
        ([64, 128, 256], [0.3, 0.2, 0.4], (64, "already at 64")),
    ],
)
def test_where_no_crossing_was_measured(
    lengths: list[int], shares: list[float], found: tuple[int | None, str]
) -> None:
    value, status = crossing_of_points(lengths, shares, 0.1, LIMIT)
    assert status == found[1]
    assert value is found[0] or value == pytest.approx(found[0], rel=0.02)


@pytest.mark.parametrize("window", [0, 4096])
def test_read_off_a_curve_it_is_nearly_the_same(window: int) -> None:
    spec = replace(LLAMA_8B, sliding_window=window)
    curve = {n: seconds(n, spec=spec) for n in grid(LIMIT)}
    exact = modelled(lambda n: seconds(n, spec=spec), H100, LIMIT)
    for name, found in read_off(curve, "spec").items():
        assert found.status == exact[name].status and found.lo is found.hi is None
        assert found.value is exact[name].value or found.value == pytest.approx(
            exact[name].value, rel=0.01
        )


def test_small_weights_bring_it_nearer_and_small_keys_push_it_away() -> None:
    def s10(choices: Choices) -> int:
        value = modelled(lambda n: seconds(n, choices), H100, LIMIT)["s10"].value
        assert value is not None
        return value

    here = s10(SERIAL)
    assert s10(replace(SERIAL, weight_bytes=0.5625)) < here / 2
    assert s10(replace(SERIAL, kv_bytes=1.0)) == pytest.approx(2 * here, rel=1e-3)


def test_crossover_answers_in_a_sentence_and_in_json(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["crossover", "--model", str(tiny_folder), "--hardware", "cpu-avx2", "--batch", "4"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "attention " in said and "at batch 4." in said
    assert main([*argv, "--phase", "prefill", "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["phase"], record["batch"]) == ("prefill", 4)
    for name in ("s05", "s10", "s50"):
        assert set(record[name]) == {"value", "lo", "hi", "kind", "status"}
        assert record[name]["kind"] == "spec"


def test_a_run_and_a_machine_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossover", "--run", "x.json", "--hardware", "h100"]) == 2
    assert "--hardware has no effect on it" in capsys.readouterr().err
