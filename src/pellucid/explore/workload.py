"""The cost model's input: a workload, and the settings of the switches that change its cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.config import check_field, option
from pellucid.errors import InputError
from pellucid.resolve import CHUNKS

Phase = Literal["decode", "prefill"]
AUTOMATIC = ("gemv", "graphs", "overlap")
"""Switches that can be `auto`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is computed. Lengths in tokens; bad ones raise `InputError`."""

    phase: Phase
    length: int
    """decode: stored tokens that the new one sees, itself included. prefill: new tokens."""
    batch: int = 1
    """Sequences side by side, all alike."""
    prefix: int = 0
    """prefill: tokens stored before (an earlier chunk, or found in the prefix cache)."""

    def __post_init__(self) -> None:
        if self.phase not in ("decode", "prefill"):
            raise InputError(f"phase must be decode or prefill, not {self.phase!r}", param="phase")
        for name, least in (("length", 1), ("batch", 1), ("prefix", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    f"{name} must be at least {least}, not {getattr(self, name)}", param=name
                )
        if self.prefix and self.phase == "decode":
            raise InputError(
                "prefix is for prefill; a decode step's length says it", param="prefix"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The switches as they bear on cost. `auto` is what the engine does on that kind of device."""

    kv_cache: str = option("on", "keep keys and values; off recomputes the prefix", ("on", "off"))
    attention: str = option(
        "flash",
        "in tiles (flash, sdpa), or with the n×n scores in memory",
        ("flash", "sdpa", "naive"),
    )
    chunked_prefill: int = option(
        -1, "prompt tokens in one step at most; 0 all, -1: 512 on a CPU, 8192 on a GPU", minimum=-1
    )
    fused_kernels: str = option("on", "the small steps in one launch each", ("on", "off"))
    gemv: str = option("auto", "norms inside the products of few rows", ("auto", "on", "off"))
    graphs: str = option("auto", "replay steps of few tokens as one graph", ("auto", "on", "off"))
    overlap: str = option("auto", "the host's work behind the device's", ("auto", "on", "off"))
    weight_bytes: float = option(2.0, "bytes per element of the layers' matrices", minimum=0.0)
    head_bytes: float = option(0.0, "the same of the LM head; 0: as the layers'", minimum=0.0)
    kv_bytes: float = option(2.0, "bytes per element of stored keys and values", minimum=0.0)
    activation_bytes: float = option(2.0, "bytes per element of activations", minimum=0.0)
    drafts: int = option(0, "tokens drafted for each step, all of them verified", minimum=0)
    acceptance: float = option(0.0, "probability that a draft is accepted", minimum=0.0)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            check_field(spec, getattr(self, spec.name))
        if self.acceptance > 1:
            raise InputError(
                f"acceptance must be at most 1, not {self.acceptance:g}", param="acceptance"
            )


def settled(choices: Choices, device: str) -> Choices:
    """`choices` with `auto` decided as the engine decides it on such a device; without stored keys
    there is nothing to verify drafts against, so there are none."""
    gpu = device == "cuda"
    possible = {
        "gemv": gpu,
        "graphs": gpu and choices.attention == "flash",
        "overlap": gpu and choices.kv_cache == "on",
    }
    changes: dict[str, Any] = {
        key: "on" if can else "off"
        for key, can in possible.items()
        if getattr(choices, key) == "auto"
    }
    if choices.chunked_prefill < 0:
        changes["chunked_prefill"] = CHUNKS["cuda" if gpu else "cpu"]
    if choices.kv_cache == "off":
        changes["drafts"] = 0
    return dataclasses.replace(choices, **changes)


def expected_tokens(choices: Choices) -> float:
    """Tokens a step yields on average: 1 + a + a² + … + a^k. Source: arXiv:2211.17192."""
    return sum(choices.acceptance**i for i in range(choices.drafts + 1))
