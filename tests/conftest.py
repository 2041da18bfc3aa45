"""Fixtures that several rooms share: the real models, fetched once."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from pellucid.model.hub import resolve
from pellucid.process import num_cores

# What servers under test measure is kept nowhere that outlives them.
os.environ["PELLUCID_STATE"] = tempfile.mkdtemp(prefix="pellucid-state-")

# The same examples every time: a failure here is a failure everywhere.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes for `-n auto`: at most four, and none beside this one where they share a GPU."""
    return 0 if torch.cuda.is_available() else min(4, num_cores())


def pytest_runtest_setup() -> None:
    """One thread for torch in each test, whatever the one before has set.

    More gain nothing on small models: OpenMP's threads spin while they wait for each other, and on
    cores that are also wanted by a second process of pytest everything takes five times as long.
    Servers under test are processes of their own and take all cores.
    """
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="torch finds no CUDA GPU on this machine")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    return resolve("smollm2")


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    return resolve("gemma3-270m")


TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the config.json of a very small Llama, for `load_format=dummy`."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    (folder / "config.json").write_text(json.dumps(TINY))
    return folder
