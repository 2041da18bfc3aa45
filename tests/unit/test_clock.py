"""What a border costs can be told from two recordings of the same graph."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pellucid.runner.clock import BORDER, Recording, border_cost

EMPTY, COST = 1300.0, 5200.0


def recorded(stages: list[float], every: int, num_replays: int) -> Recording:
    """Borders around `stages`, in nanoseconds; 0 is a stage without a kernel."""
    recording = Recording(every, num_replays=num_replays)
    times: list[float] = []
    open_ns, has_kernel = 0.0, False
    for number, stage in enumerate(stages, 1):
        open_ns, has_kernel = open_ns + stage, has_kernel or stage > 0
        if number % every == 0:
            recording.stages.append("mlp")
            times.append(open_ns + (COST if has_kernel else EMPTY))
            open_ns, has_kernel = 0.0, False
        if number % 3 == 0 and every == 1:
            recording.stages.append(BORDER)
            times.append(EMPTY)
    recording.readings = [times] * num_replays
    return recording


@given(st.lists(st.sampled_from([0.0, 2e3, 1e4, 5e5]), min_size=4, max_size=80), st.integers(1, 9))
def test_the_cost_of_a_border_is_found(stages: list[float], num_replays: int) -> None:
    full, half = recorded(stages, 1, num_replays), recorded(stages, 2, num_replays)
    between = any(a and b for a, b in zip(stages[::2], stages[1::2], strict=False))
    assert border_cost(full, half) == pytest.approx(COST if between else EMPTY)


def test_without_the_other_recording_a_border_costs_what_an_empty_one_does() -> None:
    full = recorded([1e4, 2e4, 0.0], 1, 3)
    assert border_cost(full, recorded([1e4, 2e4, 0.0], 2, 0)) == EMPTY
