"""Fixtures: servers with a fake engine behind them; see fake_server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_engine import FakeEngine
from fake_server import Running, running


@pytest.fixture(scope="session")
def shared() -> Iterator[Running]:
    """One server for all tests that leave it as they found it."""
    with running(FakeEngine()) as server:
        yield server


@pytest.fixture
def server(shared: Running) -> Running:
    assert shared.engine
    shared.engine.requests.clear()
    shared.engine.aborted.clear()
    return shared


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    """`running`, for tests that want a server of their own kind."""
    return running
