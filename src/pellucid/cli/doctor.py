"""`pellucid doctor`: what this machine has, what will be used, what is missing."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
from typing import Any

import psutil
import torch

from pellucid import kernels
from pellucid.cli.common import write_json
from pellucid.cli.parser import Parser
from pellucid.config import EngineConfig
from pellucid.explore.hardware import environment, version
from pellucid.model.hub import ALIASES, cache_folder
from pellucid.runner.machine import choose_machine, cpu_name, num_cores

GIB = 2**30
DEFAULT = EngineConfig().model


EXAMPLES = """examples:
  pellucid doctor
  pellucid doctor --json -"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--json", metavar="FILE", help="as JSON; - is stdout")


def run(args: argparse.Namespace) -> int:
    report = examine()
    if args.json != "-":
        width = max(len(name) for name in report["found"])
        for name, text in report["found"].items():
            print(f"{name:{width}}  {text}")
        for line in report["missing"]:
            print(f"missing: {line}")
        if not report["missing"]:
            print("nothing is missing")
    if args.json:
        write_json(report | {"environment": environment()}, args.json)
    return 0


def examine() -> dict[str, Any]:
    """What was found, by name, and a line for each thing missing, with its remedy."""
    machine = choose_machine(EngineConfig())
    status = kernels.status()
    cache = cache_folder()
    disk = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists()))
    model = cache / "models" / DEFAULT / ALIASES[DEFAULT].file
    memory = psutil.virtual_memory()
    found = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "torch": f"{torch.__version__}, CPU code for {torch.backends.cpu.get_cpu_capability()}",
        "cpu": f"{cpu_name()}, {num_cores()} cores",
        "gpu": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "none that torch can use",
        "memory": f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
        "disk": f"{disk.free / GIB:.1f} GiB free at {cache}",
        "runs on": f"{machine.device}, {str(machine.dtype).removeprefix('torch.')}",
        "CPU kernels": status.line,
        "GPU kernels": gpu_kernels(),
        "model": str(model) if model.exists() else f"{DEFAULT} is not fetched yet",
        "sampled with": ", ".join(f"{k} {v:g}" for k, v in ALIASES[DEFAULT].sampling.items()),
    }
    missing = _missing(found, status.ready, model.exists(), disk.free)
    return {"found": found, "missing": missing}


def gpu_kernels() -> str:
    """What compiles the GPU's kernels, or why there are none."""
    if not torch.cuda.is_available():
        return "none: torch finds no usable GPU"
    found = version("triton")
    return f"Triton {found}" if found else "none: Triton is not installed (pip install triton)"


def _missing(
    found: dict[str, str], kernels_ready: bool, model_ready: bool, free_disk: int
) -> list[str]:
    missing = []
    if not kernels_ready:
        missing.append(
            f"CPU kernels ({found['CPU kernels']}): weights will be expanded, decoding is several "
            "times slower; install a C compiler (Debian: apt install gcc)"
        )
    if not model_ready:
        missing.append("the default model: run pellucid pull")
        if free_disk < GIB // 2:
            missing.append("disk space for it: free half a GiB or set PELLUCID_CACHE elsewhere")
    return missing
