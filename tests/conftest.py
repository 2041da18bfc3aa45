"""Fixtures that several rooms share: the real models, fetched once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pellucid.model.hub import resolve


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
