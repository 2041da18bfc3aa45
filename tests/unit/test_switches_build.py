"""Turning a switch off builds another engine: no switch is accepted and then ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.features import FEATURES, Feature

SAID = {"config", "info"}
"""What an engine says of itself, which is not what it is made of."""


def made_of(value: Any, path: str = "", depth: int = 8) -> dict[str, str]:
    """Path → class or value of everything that an object holds, as far as it is ours."""
    if isinstance(value, bool | int | float | str | None):
        return {path: repr(value)}
    found = {path: type(value).__qualname__}
    if not depth or not type(value).__module__.startswith(("pellucid", "builtins")):
        return found
    parts: dict[str, Any] = {}
    if isinstance(value, list | tuple):
        parts = {str(index): part for index, part in enumerate(value[:3])}
    elif hasattr(value, "__dict__"):
        parts = vars(value)
    elif hasattr(value, "__slots__"):
        parts = {name: getattr(value, name, None) for name in value.__slots__}
    elif callable(value):
        found[path] = getattr(value, "__qualname__", "")
    for name, part in parts.items():
        if name not in SAID:
            found |= made_of(part, f"{path}.{name}", depth - 1)
    return found


def build(folder: Path, **options: Any) -> dict[str, str]:
    given: dict[str, Any] = {
        "load_format": "dummy",
        "device": "cpu",
        "dtype": "float32",
        "num_blocks": 8,
    }
    return made_of(Engine(EngineConfig(model=str(folder), threads=1, **given, **options)))


def typed(feature: Feature, value: str) -> Any:
    return int(value) if value.lstrip("-").isdigit() else value


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.key)
def test_off_is_another_engine(feature: Feature, tiny_folder: Path) -> None:
    on = next(choice for choice in feature.choices if choice != feature.off)
    try:
        with_it = build(tiny_folder, **{feature.key: typed(feature, on)})
    except InputError as why:
        pytest.skip(f"not on this machine: {why}")
    without = build(tiny_folder, **{feature.key: typed(feature, feature.off)})
    assert with_it != without, f"nothing that is built depends on {feature.key}"


def test_the_same_engine_is_made_of_the_same(tiny_folder: Path) -> None:
    assert build(tiny_folder) == build(tiny_folder)
