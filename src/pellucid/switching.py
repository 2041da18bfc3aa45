"""Other switches for an engine that runs: which values there are, and which can be had here.

Whether a value can be had is asked of `resolve.py`, which decides it for a whole configuration:
what is said of one switch holds beside the present values of the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.features import FEATURES

Resolve = Callable[[EngineConfig], object]
"""Raises `InputError` for what cannot be had here."""


def switched(config: EngineConfig, choices: Mapping[str, Any]) -> EngineConfig:
    """`config` with other switches, by name; a number may be given as text.

    `InputError` for a name that is no switch, and for a value that the switch does not know.
    """
    names = [feature.key for feature in FEATURES]
    defaults = {field.name: field.default for field in dataclasses.fields(EngineConfig)}
    values = {}
    for name, value in choices.items():
        if name not in names:
            known = ", ".join(names)
            raise InputError(f"there is no switch {name!r}; there are: {known}", param=name)
        if isinstance(defaults[name], int) and isinstance(value, str):
            value = _number(name, value)
        values[name] = value
    return dataclasses.replace(config, **values)


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} must be a whole number, not {text!r}", param=name) from None


def obstacles(config: EngineConfig, current: Mapping[str, str], resolve: Resolve) -> Obstacles:
    """Of every switch its values, each with why it cannot be had beside the others; empty if it
    can. A current value that is none of the usual ones comes last."""
    found: Obstacles = {}
    for feature in FEATURES:
        values = dict.fromkeys((*feature.choices, current[feature.key]))
        found[feature.key] = {
            value: _why_not(config, feature.key, value, resolve) for value in values
        }
    return found


Obstacles = dict[str, dict[str, str]]


def _why_not(config: EngineConfig, key: str, value: str, resolve: Resolve) -> str:
    try:
        resolve(switched(config, {key: value}))
    except InputError as error:
        return str(error)
    return ""
