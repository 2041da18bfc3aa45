"""The switchboard and the configuration agree with each other and with the files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import pellucid
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.features import FEATURES, by_key

SOURCE = Path(pellucid.__file__).parent
SETTINGS = {
    *("model", "revision", "load_format", "device", "dtype", "threads", "context_length"),
    *("memory", "block_size", "num_blocks", "max_seqs", "max_waiting", "capture"),
    "batch_invariant",
}
"""Fields of `EngineConfig` that are no optimizations."""


def test_every_field_is_a_switch_or_a_setting() -> None:
    fields = {field.name for field in dataclasses.fields(EngineConfig)}
    switches = {feature.key for feature in FEATURES}
    assert fields == switches | SETTINGS, "a new switch needs a row in features.py"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.key)
def test_a_row_names_a_config_field_and_files_that_exist(
    feature: pellucid.features.Feature,
) -> None:
    fields = {f.name: f for f in dataclasses.fields(EngineConfig)}
    field = fields[feature.key]
    assert str(field.default) == feature.default
    assert feature.off in feature.choices
    if field.metadata["choices"]:
        assert set(feature.choices) <= set(field.metadata["choices"])
    assert all((SOURCE / home).exists() for home in feature.homes)
    for conflict in feature.conflicts:
        key, value = conflict.split("=")
        assert value in by_key(key).choices


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modle": "x"}, "unknown option 'modle'"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, not 'tpu'"),
        ({"block_size": -1}, "block_size must be at least 0"),
        ({"block_size": "16"}, "block_size must be of type int, not str"),
        ({"max_seqs": True}, "max_seqs must be of type int, not bool"),
        ({"memory": float("nan")}, "memory must be at least 0"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EngineConfig.from_kwargs(**options)
