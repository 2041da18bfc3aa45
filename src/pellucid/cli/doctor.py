"""`pellucid doctor`: what this machine has, what will be used and why, what is missing."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import platform
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import torch

from pellucid import kernels
from pellucid.assembly import resolve_here
from pellucid.cli.common import add_config_flags, config_from, write_json
from pellucid.cli.parser import Parser
from pellucid.config import EngineConfig
from pellucid.explore.hardware import environment, version
from pellucid.features import FEATURES
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.model.hub import ALIASES, HUB_ID, cache_folder
from pellucid.process import num_cores
from pellucid.runner.machine import cpu_name

GIB = 2**30
SETTINGS = (
    *("device", "dtype", "threads", "context_length", "block_size", "capture"),
    "batch_invariant",
)
"""What is shown besides the switches."""


EXAMPLES = """examples:
  pellucid doctor
  pellucid doctor --model smollm2 --attention sdpa      what each switch comes to, and why
  pellucid doctor --json -"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--json", metavar="FILE", help="as JSON; - is stdout")
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    report = examine(config_from(args))
    if args.json != "-":
        show(report)
    if args.json:
        write_json(report | {"environment": environment()}, args.json)
    return 0


def show(report: dict[str, Any]) -> None:
    """The report as lines to read."""
    width = max(len(name) for name in report["found"])
    for name, text in report["found"].items():
        print(f"{name:{width}}  {text}")
    if settings := report["settings"]:
        print(f"\nwith {report['model']}, and why:")
        for name, setting in settings.items():
            begin = f"  {name:16} {setting['value']!s:12} "
            print(
                textwrap.fill(setting["why"], 100, initial_indent=begin, subsequent_indent=" " * 32)
            )
        print()
    for line in report["missing"]:
        print(f"missing: {line}")
    if not report["missing"]:
        print("nothing is missing")


def examine(config: EngineConfig) -> dict[str, Any]:
    """What was found, by name; what everything comes to for the model of `config`, and why; and a
    line for each thing missing, with its remedy."""
    status = kernels.status()
    cache = cache_folder()
    disk = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists()))
    checkpoint = open_if_here(config)
    memory = psutil.virtual_memory()
    found = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "torch": torch_words(torch.version.cuda, torch.cuda.is_available(), torch_bytes()),
        "cpu": f"{cpu_name()}, {num_cores()} cores",
        "gpu": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "none that torch can use",
        "memory": f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
        "disk": f"{disk.free / GIB:.1f} GiB free at {cache}",
        "CPU kernels": status.line,
        "GPU kernels": gpu_kernels(),
        "model": str(checkpoint.path) if checkpoint else f"{config.model} is not here yet",
        "sampled with": sampling_words(checkpoint) if checkpoint else "unknown until it is here",
    }
    return {
        "model": config.model,
        "found": found,
        "settings": settings_of(config, checkpoint) if checkpoint else {},
        "missing": _missing(found, status.ready, "" if checkpoint else config.model, disk.free),
    }


def open_if_here(config: EngineConfig) -> Checkpoint | None:
    """The model of `config`, headers only; None if it has to be fetched first."""
    model, hub = config.model, HUB_ID.fullmatch(config.model)
    path: Path | None = Path(model).expanduser()
    if model in ALIASES:
        path = cache_folder() / "models" / model / ALIASES[model].file
    elif hub and path and not path.exists():
        path = in_hub_cache(hub["repo"], hub["file"], config.revision)
        config = dataclasses.replace(config, model=str(path), revision="main")
    return open_checkpoint(config) if path and path.exists() else None


def in_hub_cache(repo: str, file: str | None, revision: str) -> Path | None:
    """Where the Hub's client keeps a repository or one file of it; None if it does not."""
    from huggingface_hub import errors, hf_hub_download, snapshot_download

    try:
        if file:
            return Path(hf_hub_download(repo, file, revision=revision, local_files_only=True))
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None


def settings_of(config: EngineConfig, checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Every switch and automatic value: what it comes to here and why."""
    resolved = resolve_here(config, checkpoint)
    values = dataclasses.asdict(resolved)
    names = [*SETTINGS, *(feature.key for feature in FEATURES)]
    return {name: {"value": values[name], "why": resolved.why[name]} for name in names}


def sampling_words(checkpoint: Checkpoint) -> str:
    """The sampling parameters that the model's authors recommend."""
    defaults = checkpoint.sampling_defaults
    return ", ".join(f"{k} {v:g}" for k, v in defaults.items()) or "temperature 1 (it names none)"


def torch_words(cuda: str | None, has_gpu: bool, size: int) -> str:
    """Which torch is installed, what it takes on disk, and whether that is more than it need be."""
    code = torch.backends.cpu.get_cpu_capability()
    build = f"built for CUDA {cuda}" if cuda else "CPU build"
    words = f"{torch.__version__}, {build}, {size / 1e9:.1f} GB on disk, CPU code for {code}"
    if cuda and not has_gpu:
        words += "; no GPU here, so its CPU build of 0.8 GB would do (docs/install.md)"
    return words


def torch_bytes() -> int:
    """What torch takes on disk, with the packages that its build for CUDA brings."""
    names = ("torch", "nvidia-", "triton") if torch.version.cuda else ("torch",)
    parts = (d for d in importlib.metadata.distributions() if (d.name or "").startswith(names))
    paths = (path.locate() for part in parts for path in part.files or ())
    return sum(Path(str(path)).stat().st_size for path in paths if Path(str(path)).exists())


def gpu_kernels() -> str:
    """What compiles the GPU's kernels, or why there are none."""
    if not torch.cuda.is_available():
        return "none: torch finds no usable GPU"
    found = version("triton")
    return f"Triton {found}" if found else "none: Triton is not installed (pip install triton)"


def _missing(found: dict[str, str], kernels_ready: bool, absent: str, free_disk: int) -> list[str]:
    missing = []
    if not kernels_ready:
        missing.append(
            f"CPU kernels ({found['CPU kernels']}): weights will be expanded, decoding is several "
            "times slower; install a C compiler (Debian: apt install gcc)"
        )
    if absent:
        missing.append(f"the model {absent}: run pellucid pull {absent}")
        if free_disk < GIB // 2:
            missing.append("disk space for it: free half a GiB or set PELLUCID_CACHE elsewhere")
    return missing
