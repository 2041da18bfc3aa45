"""Where and in what numbers the model runs, and how this process uses the machine."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from pellucid.cache.formats import KVFormat
from pellucid.config import EngineConfig
from pellucid.errors import InputError


@dataclass(frozen=True, slots=True)
class Machine:
    """What "auto" came to."""

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


def choose_machine(config: EngineConfig) -> Machine:
    """Resolve device and dtype; on a CPU also set threads and allocator of this process."""
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: torch finds no usable GPU; use device cpu", param="device")
    if name == "cpu":
        torch.set_num_threads(config.threads or num_cores())
        keep_freed_memory()
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if name == "cuda" or has_bf16_units() else "float32"
    block_size = config.block_size or (128 if name == "cuda" else 16)
    chunk = config.chunked_prefill
    if chunk < 0:
        chunk = 8192 if name == "cuda" else 512
    return Machine(torch.device(name), getattr(torch, dtype), block_size, chunk)


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP = 32 * 2**20  # the most that glibc takes for a mmap threshold


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next step.

    By default a tensor above 128 KiB is mapped when it is made and unmapped when it dies, and the
    kernel zeroes every page of it in between: for the activations of a long chunk that costs more
    than computing them. Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEEP)
        mallopt(_M_TRIM_THRESHOLD, 16 * _KEEP)
