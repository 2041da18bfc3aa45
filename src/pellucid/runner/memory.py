"""Sizing the KV cache from memory that is really free, and saying where the rest goes.

On a CPU the cache takes a share of what is free, since other programs live there too. A GPU is
ours: first the weights are loaded, then a step of the largest kind is run on a small cache to see
what activations take, and the cache gets what is left, less a reserve. The ledger lists each of
these pools. When one does not fit, the error names it, with the numbers and the smallest change
that fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from pellucid.cache.formats import KVFormat
from pellucid.cache.pool import KVPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.model.spec import ModelSpec
from pellucid.runner.machine import Machine

GIB = 2**30

_CPU_SHARE = 0.5
"""Of the free memory, at most, for the KV cache on a CPU, which other programs share."""
_GPU_SHARE = 0.9
"""Of the memory free after weights and activations: the rest is for what the driver takes when
kernels are loaded and graphs recorded, and for fragmentation."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a step of the largest kind takes besides weights and KV cache, in bytes."""

    activations: int = 0
    set_aside: int = 0
    """Set aside by recorded graphs, which share one pool."""

    @property
    def total(self) -> int:
        return self.activations + self.set_aside


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How many blocks the KV cache gets, and why."""

    num_blocks: int
    block_size: int
    block_bytes: int
    free_bytes: int
    profile: Profile

    def ledger(self, weight_bytes: int) -> list[str]:
        """Where the memory goes, a line a pool."""
        cache = self.num_blocks * self.block_bytes
        tokens = self.num_blocks * self.block_size
        lines = [f"weights     {weight_bytes / GIB:7.2f} GiB"]
        if self.profile.total:
            lines += [
                f"activations {self.profile.activations / GIB:7.2f} GiB   measured, largest step",
                f"graphs      {self.profile.set_aside / GIB:7.2f} GiB   measured, largest replay",
            ]
        left = max(0, self.free_bytes - self.profile.total - cache)
        return [
            *lines,
            f"KV cache    {cache / GIB:7.2f} GiB   {self.num_blocks} blocks of {self.block_size} "
            f"tokens, {tokens} tokens",
            f"left free   {left / GIB:7.2f} GiB",
        ]


def plan_memory(
    config: EngineConfig,
    spec: ModelSpec,
    machine: Machine,
    context_length: int,
    profile: Profile | None = None,
) -> MemoryPlan:
    """Size the KV cache from memory that is really free; `InputError` if not one block fits."""
    profile = profile or Profile()
    block_bytes = machine.block_size * kv_bytes_per_token(spec, machine.kv_format)
    free = free_memory(machine.device)
    share = _GPU_SHARE if machine.is_gpu else _CPU_SHARE
    room = max(0, free - profile.total)
    useful = config.max_seqs * -(-context_length // machine.block_size)
    if config.num_blocks:
        num_blocks = config.num_blocks
    elif config.memory:
        num_blocks = int(config.memory * GIB) // block_bytes
    else:
        num_blocks = min(useful, int(room * share) // block_bytes)
    if num_blocks < 1 or num_blocks * block_bytes > room:
        raise InputError(
            f"the KV cache does not fit: {num_blocks} blocks of {machine.block_size} tokens take "
            f"{num_blocks * block_bytes / GIB:.2f} GiB, and {room / GIB:.2f} GiB are free for it "
            f"(a block is {block_bytes / GIB:.4f} GiB): {_what_fits(config, room // block_bytes)}",
            param="memory",
        )
    return MemoryPlan(num_blocks, machine.block_size, block_bytes, free, profile)


def _what_fits(config: EngineConfig, most: int) -> str:
    """The smallest change that fits."""
    if most >= 1 and (config.num_blocks or config.memory):
        return f"set num_blocks to {most} or less, or leave memory and num_blocks out"
    return "take a smaller model, a 16-bit dtype, or a lower chunked_prefill or max_seqs"


def kv_bytes_per_token(spec: ModelSpec, format: KVFormat) -> int:
    """Bytes that one token of context takes in the KV cache of a model."""
    return format.bytes_per_token(
        num_layers=spec.num_layers, num_kv_heads=spec.num_kv_heads, head_dim=spec.head_dim
    )


def make_pool(num_blocks: int, spec: ModelSpec, machine: Machine) -> KVPool:
    """A KV cache of so many blocks for sequences (see `KVPool` for the spare one beside them)."""
    return KVPool(
        num_layers=spec.num_layers,
        num_blocks=num_blocks,
        block_size=machine.block_size,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        format=machine.kv_format,
        device=machine.device,
    )


def check_weights_fit(num_bytes: int, machine: Machine) -> None:
    """`InputError` if weights of `num_bytes` (dense, in the machine's dtype) exceed its GPU."""
    free = free_memory(machine.device)
    if machine.is_gpu and num_bytes > free:
        half = "a 16-bit dtype takes half" if machine.dtype.itemsize == 4 else "take a smaller one"
        raise InputError(
            f"the weights do not fit: the model takes {num_bytes / GIB:.2f} GiB in "
            f"{str(machine.dtype).removeprefix('torch.')}, and {free / GIB:.2f} GiB are free on "
            f"{machine.device}: {half}",
            param="model",
        )


def check_steps_fit(profile: Profile, machine: Machine) -> None:
    """`InputError` if the largest step exceeds what weights and KV cache have left."""
    free = free_memory(machine.device)
    if profile.total > free:
        raise InputError(
            f"the largest step does not fit beside weights and KV cache: it takes "
            f"{profile.total / GIB:.2f} GiB, and {free / GIB:.2f} GiB are free on "
            f"{machine.device}: start with a lower memory, chunked_prefill or max_seqs",
            param="memory",
        )


@contextmanager
def naming(pool: str, remedy: str, param: str) -> Iterator[None]:
    """Turn a GPU's out-of-memory inside into an `InputError` that says which pool overflowed."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(f"out of GPU memory for {pool}{_left()}: {remedy}", param=param) from error


def _left() -> str:
    """What is free on the GPU, for a message."""
    if not torch.cuda.is_available():
        return ""
    free, total = (n / GIB for n in torch.cuda.mem_get_info())
    return f" ({free:.2f} of {total:.2f} GiB free)"


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on `device` now."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
