"""What every benchmark here shares: the machine, its limits, and the arithmetic of samples.

Problem: a figure without its machine means nothing, and shared machines change by the minute.
Idea: each result file carries the environment, the raw samples, and two limits probed *in the same
run*: how fast memory can be read (what bounds decoding) and how fast matrices can be multiplied
(what bounds prefill). A figure is then read against its limit rather than against another day's.
Trade-off: the probes take a moment each and measure what torch reaches, not the data sheet.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pellucid.explore import hardware

FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile")
VARIABLES = ("OMP_", "MKL_", "GOMP_", "KMP_", "DNNL_", "ONEDNN_")


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def spread(samples: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest sample."""
    return min(samples), max(samples)


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and the samples themselves, as every result file has them."""
    low, high = spread(samples)
    return {"median": median(samples), "min": low, "max": high, "samples": list(samples)}


def write_json(path: str | Path, record: Any) -> None:
    """Write `record` to `path`; `-` is stdout. A file appears whole or not at all."""
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def environment() -> dict[str, Any]:
    """The machine and the software, as plain JSON: the engine's own record and what speed needs."""
    return {
        **hardware.environment(),
        "command": " ".join(Path(word).name for word in sys.argv),  # no folders of this machine
        "cpu_flags": cpu_flags(),
        "caches": caches(),
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
    }


def cpu_flags() -> list[str]:
    """Which of FLAGS the processor has, as far as the system tells (Linux on x86)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    found = next((line.split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in FLAGS if flag in found]


def caches() -> dict[str, str]:
    """Sizes of the first core's data caches, `{"l3": "32768K", ...}`, as the system tells them."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / f).read_text().strip() for f in ("level", "type", "size"))
        if kind != "Instruction":
            sizes[f"l{level}"] = size
    return sizes


def read_bandwidth(repeats: int = 5) -> list[float]:
    """GB/s at which torch reads memory that no cache holds, a sample per repeat."""
    device = torch.device("cpu")
    return [hardware.read_bandwidth(device, repeats=1) / 1e9 for _ in range(repeats)]


def matmul_rate(
    dtype: torch.dtype = torch.float32, size: int = 1024, repeats: int = 5
) -> list[float]:
    """GFLOP/s of a square matrix product, a sample per repeat after one that is not counted."""
    left, right = torch.randn(2, size, size).to(dtype)
    rates = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(left, right)
        rates.append(2 * size**3 / (time.perf_counter() - start) / 1e9)
    return rates[1:]
