"""What machine a figure comes from, and what that machine could do at best.

A speed alone says little; beside the limit measured in the same run it says how much is left. A
decode step must read every weight and every stored key and value once, so its limit is memory
bandwidth.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from pellucid.config import EngineConfig
from pellucid.model.spec import ModelSpec
from pellucid.process import num_cores
from pellucid.resolve import resolve
from pellucid.runner.machine import cpu_name, device_name, look_around, machine_of
from pellucid.runner.memory import naming

PRODUCT = {"cpu": 2048, "cuda": 8192}
"""Sides of the matrices whose product shows what the machine can compute."""


def environment() -> dict[str, Any]:
    """Machine, versions and commit of a measurement, ready for JSON."""
    packages = ("torch", "numpy", "tokenizers", "gguf")
    record: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": os.getloadavg(),
        "versions": {name: version(name) for name in ("pellucid", *packages)},
    }
    if torch.cuda.is_available():
        record["gpu"] = torch.cuda.get_device_name()
        record["cuda"] = torch.version.cuda
    return record


def version(package: str) -> str:
    """The installed version; empty if there is none (run from a source tree, say)."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """The source's commit, with `+` if it was changed since; empty outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except FileNotFoundError:
        return ""


def read_bandwidth(device: torch.device, repeats: int = 5) -> float:
    """Bytes per second at which a sum reads memory that no cache holds; median of `repeats`."""
    size = 2**28 if device.type == "cpu" else 2**31
    data = torch.ones(size // 4, dtype=torch.float32, device=device)
    return size / statistics.median(timed(data.sum, device) for _ in range(repeats))


def measure_limits(
    device: torch.device, dtype: torch.dtype, between: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """What this machine reaches at nothing but reading memory, and at one large matrix product.

    between: called between the products, and may raise to end it.
    """
    size = PRODUCT[device.type]
    with naming("what the limits are measured on", "set memory lower", "memory"):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        timed(lambda: left @ right, device)
        products = []
        for _ in range(5):
            between()
            products.append(timed(lambda: left @ right, device))
        product_s = statistics.median(products)
        between()
        return {
            "read_bytes_s": read_bandwidth(device),
            "matmul_flop_s": 2 * size**3 / product_s,
        }


@dataclass(frozen=True, slots=True)
class Reached:
    """What this machine reaches at best, in the numbers that the engine computes in here."""

    name: str
    device: str
    """cuda or cpu"""
    element_bytes: int
    flop_s: float
    bytes_s: float


def measure_here(spec: ModelSpec) -> Reached:
    """Measure it for a model: a second or two on a quiet machine."""
    machine = machine_of(resolve(EngineConfig(), spec, look_around("auto")))
    limits = measure_limits(machine.device, machine.dtype)
    return Reached(
        name=device_name(machine.device),
        device=machine.device.type,
        element_bytes=machine.dtype.itemsize,
        flop_s=limits["matmul_flop_s"],
        bytes_s=limits["read_bytes_s"],
    )


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, the device's included."""
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
