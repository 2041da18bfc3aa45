"""The machine as torch sees it: the facts that choices depend on, and what the choices came to."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from pellucid.cache.formats import KVFormat
from pellucid.facts import MachineFacts
from pellucid.kernels import KINDS, why_no_cpu_kernels
from pellucid.resolve import Resolved


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the model runs and in what numbers."""

    device: torch.device
    dtype: torch.dtype
    block_size: int
    """Tokens in one block of the KV cache."""
    chunked_prefill: int
    """Prompt tokens in one step at most; 0: no limit."""

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def kv_format(self) -> KVFormat:
        """How keys and values are stored: as numbers of the model's own dtype."""
        return KVFormat(self.dtype)


def machine_of(resolved: Resolved) -> Machine:
    """What was resolved, in torch's terms."""
    return Machine(
        device=torch.device(resolved.device),
        dtype=getattr(torch, resolved.dtype),
        block_size=resolved.block_size,
        chunked_prefill=resolved.chunked_prefill,
    )


def look_around(device: str) -> MachineFacts:
    """The facts of this machine for an engine that is to run on `device`, cpu, cuda or auto.

    For cpu the GPU is not asked: that would take some of its memory.
    """
    has_gpu = device != "cpu" and torch.cuda.is_available()
    return MachineFacts(
        gpu=torch.cuda.get_device_name() if has_gpu else "",
        capability=torch.cuda.get_device_capability() if has_gpu else (0, 0),
        has_triton=find_spec("triton") is not None,
        has_bf16_units=has_bf16_units(),
        threads=torch.get_num_threads(),
        why_no_cpu_kernels=why_no_cpu_kernels,
        packs=frozenset(KINDS),
    )


def use_threads(num_threads: int) -> None:
    """Have torch and our CPU kernels use so many threads in this process; 0 leaves it alone."""
    if num_threads:
        torch.set_num_threads(num_threads)


def device_name(device: torch.device) -> str:
    """What people call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def has_bf16_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware; without, float32 is faster."""
    # torch has no public way to ask.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
