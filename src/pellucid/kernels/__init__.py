"""Kernels: tensors in, tensors out. Nothing here knows a model.

Each kernel has a slow twin in `reference/` that says in a few lines of torch what it computes;
tests hold them together. `cpu_kernels` gives the compiled ones or says why there are none.
"""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from typing import NamedTuple

import torch

from pellucid.errors import InputError
from pellucid.kernels.cpu.linear import KINDS, BuildError, CpuKernels, PackedMatrix
from pellucid.kernels.cpu.step import TYPES, StepKernels
from pellucid.kernels.decode import DecodeKernels
from pellucid.kernels.ops import CpuOps, Ops, TorchOps
from pellucid.kernels.units import Composed, Units

__all__ = [
    "KINDS",
    "BuildError",
    "CpuKernels",
    "DecodeKernels",
    "Ops",
    "PackedMatrix",
    "Status",
    "StepKernels",
    "Units",
    "cpu_kernels",
    "make_draw",
    "make_units",
    "need_step_kernels",
    "status",
    "why_no_step_kernels",
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


def make_units(
    fused: str, gemv: str, device: torch.device, dtype: torch.dtype
) -> tuple[Units, dict[str, str]]:
    """The pieces of a layer, and what `fused` and `gemv` (on, off or auto) came to.

    An explicit on that cannot be had is an `InputError`.
    """
    chosen = {
        "fused_kernels": _settle("fused_kernels", fused, _why_no_fusion(device, dtype)),
        "gemv": _settle("gemv", gemv, _why_no_triton(device)),
    }
    ops: Ops = TorchOps()
    if chosen["fused_kernels"] == "on":
        if device.type == "cpu":
            ops = CpuOps(StepKernels(cpu_kernels().library))
        else:
            from pellucid.kernels.triton.ops import TritonOps  # loads only where it runs

            ops = TritonOps()
    if chosen["gemv"] == "on":
        from pellucid.kernels.triton.units import GemvUnits

        return GemvUnits(ops, dtype), chosen
    return Composed(ops, dtype), chosen


def make_draw(wanted: str, device: torch.device) -> tuple[str, DecodeKernels | None]:
    """What `sampler` (pivot, sort or auto) comes to, and a decode step's kernels; None on a CPU."""
    reason = _why_no_triton(device)
    if reason and wanted == "pivot":
        raise InputError(f"sampler pivot: {reason}", param="sampler")
    if reason:
        return "sort", None
    from pellucid.kernels.triton.ahead import compiling_ahead
    from pellucid.kernels.triton.inputs import derive, prepare
    from pellucid.kernels.triton.sample import choose

    # What `prepare` makes is used as an index: that one is launched even so.
    ahead = partial(compiling_ahead, launched=[derive])
    if wanted == "sort":
        return "sort", DecodeKernels(prepare, None, ahead)
    return "pivot", DecodeKernels(prepare, choose, ahead)


def need_step_kernels(what: str, device: torch.device, dtype: torch.dtype) -> StepKernels:
    """The kernels of step.c; `InputError` that says why `what` cannot be had."""
    if reason := why_no_step_kernels(device, dtype):
        raise InputError(f"{what}: {reason}", param=what.split()[0])
    return StepKernels(cpu_kernels().library)


def why_no_step_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """Why the kernels of step.c do not run; empty if they do."""
    if device.type != "cpu":
        return f"its kernels are for the CPU, and the device is {device.type}"
    if dtype not in TYPES:
        return "its kernels are for float32 and bfloat16"
    return "" if status().ready else status().line


def _why_no_triton(device: torch.device) -> str:
    if device.type != "cuda":
        return f"its kernels are for an NVIDIA GPU, and the device is {device.type}"
    return "" if find_spec("triton") else "its kernels need Triton, which is not installed"


def _why_no_fusion(device: torch.device, dtype: torch.dtype) -> str:
    if device.type == "cpu":
        return why_no_step_kernels(device, dtype)
    return _why_no_triton(device)


def _settle(key: str, wanted: str, reason: str) -> str:
    """on or off; `InputError` for an on that `reason` forbids."""
    if wanted == "on" and reason:
        raise InputError(f"{key} on: {reason}", param=key)
    return "off" if reason or wanted == "off" else "on"


@cache
def _load() -> CpuKernels | BuildError:
    """Once in a process, whether it works or not."""
    try:
        return CpuKernels()
    except BuildError as error:
        return error
