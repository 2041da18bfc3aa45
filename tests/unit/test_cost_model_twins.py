"""What the cost model says of the engine is held against the engine: `auto`, and thresholds."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.explore.work import FEW_PACKED, SHARED_POSITIONS, UNSHARED_HEADS
from pellucid.explore.workload import Choices, settled
from pellucid.facts import MachineFacts
from pellucid.kernels.cpu.linear import MAX_FEW
from pellucid.model.spec import ModelSpec
from pellucid.resolve import resolve

SPEC = ModelSpec(
    family="llama",
    vocab_size=96,
    hidden_size=64,
    intermediate_size=64,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    context_length=128,
    norm_eps=1e-5,
    rope_theta=1e4,
)
MACHINES = {
    "cpu": MachineFacts(),
    "cuda": MachineFacts(gpu="NVIDIA H100", capability=(9, 0), has_triton=True),
}
VALUES: dict[str, tuple[Any, ...]] = {
    "kv_cache": ("on", "off"),
    "attention": ("flash", "sdpa", "naive"),
    "fused_kernels": ("on", "off"),
    "gemv": ("auto", "on", "off"),
    "graphs": ("auto", "on", "off"),
    "overlap": ("auto", "on", "off"),
    "chunked_prefill": (-1, 0, 512),
}


@pytest.mark.parametrize("device", MACHINES)
def test_auto_is_what_the_engine_does(device: str) -> None:
    num_compared = 0
    for values in itertools.product(*VALUES.values()):
        options = dict(zip(VALUES, values, strict=True))
        try:
            engine = resolve(EngineConfig(**options), SPEC, MACHINES[device])
        except InputError:
            continue  # the engine has no such configuration
        model = settled(Choices(**options), device)
        assert {key: getattr(model, key) for key in VALUES} == {
            key: getattr(engine, key) for key in VALUES
        }
        num_compared += 1
    assert num_compared > 100


def test_the_choices_are_the_switches_values() -> None:
    for key, values in VALUES.items():
        for value in values:
            EngineConfig(**{key: value})
            Choices(**{key: value})


def test_few_rows_by_packed_weights() -> None:
    assert FEW_PACKED == MAX_FEW


@given(num_rows=st.integers(1, 300), kv_heads=st.integers(1, 16), context=st.integers(1, 20_000))
def test_when_programs_share_a_decoding_row(num_rows: int, kv_heads: int, context: int) -> None:
    """On a chip of about as many multiprocessors as an H100 has (132)."""
    pytest.importorskip("triton")
    from pellucid.kernels.triton.decode import choose_splits

    shared = context >= SHARED_POSITIONS and num_rows * kv_heads <= UNSHARED_HEADS
    assert (choose_splits(num_rows, kv_heads, context, UNSHARED_HEADS) > 1) == shared
