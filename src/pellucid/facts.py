"""What a machine has, as far as a choice depends on it, and which of our kernels run there.

The facts are a plain record without torch: `runner/machine.py` fills it in for the machine at hand,
tests write down any other (`MachineFacts(gpu="NVIDIA H100", capability=(9, 0), has_triton=True)`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FIRST_CAPABILITY = (8, 0)
"""Compute capability (Ampere) from which Triton supports NVIDIA GPUs, and from which they have
units for bfloat16."""

CPU_KERNEL_DTYPES = ("float32", "bfloat16")
"""What the C kernels compute in."""


def nothing() -> str:
    """No reason against it."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What a machine has, as far as a value depends on it."""

    gpu: str = ""
    """Name of the GPU that torch can use; empty: there is none."""
    capability: tuple[int, int] = (0, 0)
    """Its compute capability: (8, 0) is an A100, (9, 0) an H100."""
    has_triton: bool = False
    """Whether Triton, which compiles the GPU's kernels, is installed."""
    has_bf16_units: bool = False
    """Whether the CPU multiplies bfloat16 matrices in hardware."""
    threads: int = 1
    """CPU threads that torch uses in this process."""
    why_no_cpu_kernels: Callable[[], str] = nothing
    """Why the C kernels cannot be had; empty if they can. Asked only if something depends on it,
    since they are compiled on first use."""
    packs: frozenset[str] = frozenset()
    """Kinds of 4- to 8-bit blocks that the C kernels multiply as they are."""


@dataclass(frozen=True, slots=True)
class Here:
    """The machine, and which device and numbers of it are used; which kernels run there."""

    machine: MachineFacts
    device: str
    dtype: str

    @property
    def is_gpu(self) -> bool:
        return self.device == "cuda"

    def why_no_triton(self) -> str:
        """Why kernels compiled by Triton do not run here; empty if they do."""
        if not self.is_gpu:
            return f"its kernels are for an NVIDIA GPU, and the device is {self.device}"
        if not self.machine.has_triton:
            return "its kernels need Triton, which is not installed"
        if self.machine.capability < FIRST_CAPABILITY:
            needed, found = (
                ".".join(map(str, pair)) for pair in (FIRST_CAPABILITY, self.machine.capability)
            )
            return (
                f"its kernels need a GPU of compute capability {needed} or more, and "
                f"{self.machine.gpu} has {found}"
            )
        return ""

    def why_no_cpu_kernels(self) -> str:
        """Why the C kernels that compute in the model's dtype do not run here."""
        if self.is_gpu:
            return f"its kernels are for the CPU, and the device is {self.device}"
        if self.dtype not in CPU_KERNEL_DTYPES:
            return f"its kernels are for {' and '.join(CPU_KERNEL_DTYPES)}, not {self.dtype}"
        return self.machine.why_no_cpu_kernels()
