"""Sizing the KV cache from memory that is really free, and saying so."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from pellucid.cache.pool import KVPool
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.model.spec import ModelSpec
from pellucid.runner.machine import Machine

GIB = 2**30


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How many blocks the KV cache gets, and why."""

    num_blocks: int
    block_bytes: int
    free_bytes: int

    def ledger(self, weight_bytes: int, config: EngineConfig) -> list[str]:
        tokens = self.num_blocks * config.block_size
        cache = self.num_blocks * self.block_bytes
        return [
            f"weights   {weight_bytes / GIB:7.2f} GiB",
            f"KV cache  {cache / GIB:7.2f} GiB   {self.num_blocks} blocks of {config.block_size} "
            f"tokens, {tokens} tokens",
            f"left free {max(0, self.free_bytes - cache) / GIB:7.2f} GiB",
        ]


_KV_SHARE = 0.5
"""Of the free memory, at most, for the KV cache on a CPU, which other programs share."""


def plan_memory(
    config: EngineConfig, spec: ModelSpec, machine: Machine, context_length: int
) -> MemoryPlan:
    """Size the KV cache from memory that is really free; `InputError` if not one block fits."""
    if config.num_blocks and config.memory:
        raise InputError("memory and num_blocks both size the KV cache: give one", param="memory")
    block_bytes = config.block_size * spec.kv_bytes_per_token(machine.dtype.itemsize)
    free = free_memory(machine.device)
    useful = config.max_seqs * -(-context_length // config.block_size)
    if config.num_blocks:
        num_blocks = config.num_blocks
    elif config.memory:
        num_blocks = int(config.memory * GIB) // block_bytes
    else:
        num_blocks = min(useful, int(free * _KV_SHARE) // block_bytes)
    if num_blocks < 1 or num_blocks * block_bytes > free:
        raise InputError(
            f"a KV cache of {num_blocks} blocks takes {num_blocks * block_bytes / GIB:.2f} GiB of "
            f"the {free / GIB:.2f} GiB free (a block is {block_bytes / GIB:.4f} GiB): set memory, "
            "num_blocks or context_length to what fits",
            param="memory",
        )
    return MemoryPlan(num_blocks, block_bytes, free)


def make_pool(plan: MemoryPlan, config: EngineConfig, spec: ModelSpec, machine: Machine) -> KVPool:
    """The KV cache that was planned."""
    return KVPool(
        num_layers=spec.num_layers,
        num_blocks=plan.num_blocks,
        block_size=config.block_size,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        dtype=machine.dtype,
        device=machine.device,
    )


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on `device` now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
