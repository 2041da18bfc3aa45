"""Kernels: tensors in, tensors out. Nothing here knows a model.

Each kernel has a slow twin in `reference.py` that says in a few lines of torch what it computes;
tests hold them together. `cpu_kernels` gives the compiled ones or says why there are none.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from pellucid.errors import InputError
from pellucid.kernels.cpu.linear import KINDS, BuildError, CpuKernels, PackedMatrix
from pellucid.kernels.cpu.step import TYPES, StepKernels
from pellucid.kernels.ops import CpuOps, Ops, TorchOps

__all__ = [
    "KINDS",
    "BuildError",
    "CpuKernels",
    "Ops",
    "PackedMatrix",
    "Status",
    "StepKernels",
    "cpu_kernels",
    "make_ops",
    "need_step_kernels",
    "status",
    "step_kernels",
]


class Status(NamedTuple):
    """Whether the compiled CPU kernels can be used, and a line that says which or why not."""

    ready: bool
    line: str


def cpu_kernels() -> CpuKernels:
    """The compiled CPU kernels; `BuildError` if they cannot be had. Compiles on first use."""
    found = _load()
    if isinstance(found, BuildError):
        raise found
    return found


def status() -> Status:
    """What the command line's `doctor` prints. Compiles on first use."""
    found = _load()
    if isinstance(found, BuildError):
        return Status(False, str(found))
    return Status(True, f"{found.instruction_set}, {found.origin}")


def make_ops(fused: str, device: torch.device, dtype: torch.dtype) -> Ops:
    """The steps between the matrices: fused where kernels exist, or composed from torch.

    `fused` is on, off or auto; an explicit on that cannot be had is an `InputError`.
    """
    if fused == "on":
        return CpuOps(need_step_kernels("fused_kernels on", device, dtype))
    kernels = step_kernels(device, dtype) if fused == "auto" else None
    return TorchOps() if kernels is None else CpuOps(kernels)


def step_kernels(device: torch.device, dtype: torch.dtype) -> StepKernels | None:
    """The kernels of step.c; None where they do not run."""
    if _why_no_steps(device, dtype):
        return None
    return StepKernels(cpu_kernels().library)


def need_step_kernels(what: str, device: torch.device, dtype: torch.dtype) -> StepKernels:
    """The same; `InputError` that says why `what` cannot be had."""
    if reason := _why_no_steps(device, dtype):
        raise InputError(f"{what}: {reason}", param=what.split()[0])
    return StepKernels(cpu_kernels().library)


def _why_no_steps(device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cpu":
        return f"its kernels are for the CPU, and the device is {device.type}"
    if dtype not in TYPES:
        return "its kernels are for float32 and bfloat16"
    return "" if status().ready else status().line


@cache
def _load() -> CpuKernels | BuildError:
    """Once in a process, whether it works or not."""
    try:
        return CpuKernels()
    except BuildError as error:
        return error
