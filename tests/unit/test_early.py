"""What is begun before the model is known: a context that nobody waits for, kernels imported."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest
import torch

from pellucid.runner import early


class Driver:
    """Stands in for libcuda; writes down what it is asked."""

    def __init__(self, calls: list[str], status: int) -> None:
        self._calls, self._status = calls, status

    def cuInit(self, flags: int) -> int:
        self._calls.append("init")
        return self._status

    def cuDeviceGet(self, device: Any, number: int) -> int:
        self._calls.append(f"device {number}")
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        self._calls.append("context")
        return 0


@pytest.mark.parametrize("status", [0, 100])
def test_a_context_is_made_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """100 is the driver's word for no GPU: then nothing more is asked of it."""
    calls: list[str] = []

    def library(name: str) -> Any:
        assert name == "libcuda.so.1"
        return Driver(calls, status)

    monkeypatch.setenv("CUDA_MODULE_LOADING", "EAGER")
    monkeypatch.setattr(ctypes, "CDLL", library)
    early.begin_context().join(5)
    assert calls == (["init", "device 0", "context"] if status == 0 else ["init"])


def test_without_a_driver_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", library)
    early.begin_context().join(5)


def test_kernels_are_imported_where_torch_sees_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(early, "import_module", imported.append)
    monkeypatch.setattr(early, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    early.import_kernels()
    assert imported == []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    early.import_kernels()
    assert tuple(imported) == early.KERNELS


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
def test_the_kernels_that_are_named_exist() -> None:
    from importlib.util import find_spec

    assert all(find_spec(module) for module in early.KERNELS)
