"""Kernels: tensors in, tensors out. Nothing here knows a model.

Each kernel has a slow twin in `reference/` that says in a few lines of torch what it computes;
tests hold them together. `cpu_kernels` gives the compiled ones or says why there are none.
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import torch

from pellucid.kernels.cpu.linear import KINDS, BuildError, CpuKernels, PackedMatrix
from pellucid.kernels.cpu.step import StepKernels
from pellucid.kernels.ops import CpuOps, Ops, TorchOps
from pellucid.kernels.rows import RowKernels
from pellucid.kernels.units import Composed, Units

__all__ = [
    "KINDS",
    "BuildError",
    "CpuKernels",
    "Ops",
    "PackedMatrix",
    "RowKernels",
    "Status",
    "StepKernels",
    "Units",
    "cpu_kernels",
    "make_row_kernels",
    "make_units",
    "status",
    "step_kernels",
    "why_no_cpu_kernels",
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


def why_no_cpu_kernels() -> str:
    """Why the compiled CPU kernels cannot be had; empty if they can. Compiles on first use."""
    return "" if status().ready else status().line


def step_kernels() -> StepKernels:
    """The kernels of step.c; `BuildError` if they cannot be had."""
    return StepKernels(cpu_kernels().library)


def make_units(fused: bool, gemv: bool, device: torch.device, dtype: torch.dtype) -> Units:
    """The pieces of a layer: each small step one kernel (`fused`), and products of few rows ours
    (`gemv`)."""
    ops: Ops = TorchOps()
    if fused and device.type == "cpu":
        ops = CpuOps(step_kernels())
    elif fused:
        from pellucid.kernels.triton.ops import TritonOps  # loads only where it runs

        ops = TritonOps()
    if not gemv:
        return Composed(ops, dtype)
    from pellucid.kernels.triton.units import GemvUnits

    return GemvUnits(ops, dtype)


def make_row_kernels() -> RowKernels:
    """What padded steps need on a GPU besides model and sampler."""
    from pellucid.kernels.triton.ahead import compiling_ahead
    from pellucid.kernels.triton.inputs import derive, prepare

    # What `prepare` makes is used as an index: that one is launched even so.
    ahead = partial(compiling_ahead, launched=[derive])
    return RowKernels(prepare, ahead)


@cache
def _load() -> CpuKernels | BuildError:
    """Once in a process, whether it works or not."""
    try:
        return CpuKernels()
    except BuildError as error:
        return error
