"""Kernels: tensors in, tensors out. Nothing here knows a model.

Each kernel has a slow twin in `reference.py` that says in a few lines of torch what it computes;
tests hold them together. `cpu_kernels` gives the compiled ones or says why there are none.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from pellucid.kernels.cpu.linear import KINDS, BuildError, CpuKernels, PackedMatrix

__all__ = ["KINDS", "BuildError", "CpuKernels", "PackedMatrix", "Status", "cpu_kernels", "status"]


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


@cache
def _load() -> CpuKernels | BuildError:
    """Once in a process, whether it works or not."""
    try:
        return CpuKernels()
    except BuildError as error:
        return error
