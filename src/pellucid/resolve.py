"""What every switch and every automatic value comes to on this machine, and why.

A configuration says what is asked for: "on", "off", a number, or "auto". What that comes to depends
on the machine, the model and the other switches: CUDA graphs need a GPU and attention `flash`,
which needs Triton and heads of 16 dimensions or more. `resolve` decides all of it in one place,
before any weight is read, and gives a reason for each value. An explicit wish that cannot be
granted is an `InputError` that names the option and the remedy; "auto" gives way instead.

It is a pure function of plain records and imports no torch, so that every case of every GPU is
tested on a machine without one. `facts.py` describes machines; the engine builds what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.facts import FIRST_CAPABILITY, Here, MachineFacts
from pellucid.features import FEATURES, by_key, check_conflicts, excluded
from pellucid.model.spec import ModelSpec

BLOCK_SIZES = {"cpu": 16, "cuda": 128}
"""Tokens in a block of the KV cache."""

CHUNKS = {"cpu": 512, "cuda": 8192}
"""Prompt tokens in one step at most."""

MOST_GPU_ROWS = 4096
"""Sequences in one step on a GPU: the largest shape that a step is padded to."""

FEWEST_DIMENSIONS = 16
"""Of a head, for the GPU's attention kernels: a matrix unit's edge."""

FEWEST_BLOCK_TOKENS = 16
"""In a block of the KV cache, for the same kernels."""

ASKED = "asked for"
DEFAULT = "the default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What everything came to. No value is "auto"."""

    device: str
    """cpu or cuda"""
    dtype: str
    """float32, bfloat16 or float16"""
    threads: int
    context_length: int
    """Longest prompt plus answer, in tokens."""
    block_size: int
    """Tokens in one block of the KV cache."""
    has_gpu_kernels: bool
    """Whether kernels compiled by Triton run here."""
    kv_cache: str
    attention: str
    batching: str
    chunked_prefill: int
    """Prompt tokens in one step at most; 0: no limit."""
    fused_kernels: str
    gemv: str
    sampler: str
    graphs: str
    capture: str
    overlap: str
    weights: str
    batch_invariant: str
    """on or off: whether a row's numbers are the same, to the bit, whatever rows are beside it."""
    why: Mapping[str, str]
    """By field: the reason for its value, in a sentence."""

    @property
    def switches(self) -> dict[str, str]:
        """Every row of the switchboard, and what it came to."""
        return {feature.key: str(getattr(self, feature.key)) for feature in FEATURES}


class Settled(NamedTuple):
    """What a field came to, and the reason."""

    value: Any
    why: str


def resolve(
    config: EngineConfig,
    spec: ModelSpec,
    machine: MachineFacts,
    layer_kinds: frozenset[str] = frozenset(),
) -> Resolved:
    """Settle every value of `config`; `InputError` for what cannot be had.

    layer_kinds: element types that the layers' weights are stored in ("BF16", "Q4_1", ...), as the
    checkpoint's header names them.
    """
    check_conflicts({feature.key: str(getattr(config, feature.key)) for feature in FEATURES})
    answers = {
        "device": _device(config, machine),
        "threads": _threads(config, machine),
        "context_length": _context_length(config, spec),
        "kv_cache": _as_asked(config, "kv_cache"),
        "batching": _as_asked(config, "batching"),
        "capture": _as_asked(config, "capture"),
        "batch_invariant": _as_asked(config, "batch_invariant"),
    }
    device = answers["device"].value
    _check_sizes(config, device)
    answers["dtype"] = _dtype(config, machine, device)
    answers["block_size"] = _number(config.block_size, 0, BLOCK_SIZES, device)
    answers["chunked_prefill"] = _number(config.chunked_prefill, -1, CHUNKS, device)
    here = Here(machine, device, answers["dtype"].value)
    answers["attention"] = _attention(config, spec, here, answers["block_size"].value)
    answers["fused_kernels"] = _fused_kernels(config, here)
    answers["gemv"] = _gemv(config, here)
    answers["sampler"] = _sampler(config, here)
    answers["weights"] = _weights(config, here, layer_kinds)
    for key in ("graphs", "overlap"):
        others = {name: str(answer.value) for name, answer in answers.items()}
        answers[key] = _pace(config, key, here, others)
    _check_capture(config, answers["graphs"])
    if config.batch_invariant == "on":
        _refuse("batch_invariant", "on", _why_not_invariant(here, answers), "off")
    return Resolved(
        has_gpu_kernels=not here.why_no_triton(),
        why={key: answer.why for key, answer in answers.items()},
        **{key: answer.value for key, answer in answers.items()},
    )


# --- where, and in what numbers and sizes --------------------------------------------------------


def _device(config: EngineConfig, machine: MachineFacts) -> Settled:
    if config.device == "cuda" and not machine.gpu:
        raise InputError("device cuda: torch finds no usable GPU; use device cpu", param="device")
    if config.device != "auto":
        return Settled(config.device, ASKED)
    if machine.gpu:
        return Settled("cuda", f"torch finds an NVIDIA GPU ({machine.gpu})")
    return Settled("cpu", "torch finds no usable GPU")


def _dtype(config: EngineConfig, machine: MachineFacts, device: str) -> Settled:
    if config.dtype != "auto":
        return Settled(config.dtype, ASKED)
    if config.batch_invariant == "on":
        return Settled("float32", "what batch_invariant multiplies in, whatever the dtype is")
    if device == "cuda":
        if machine.capability >= FIRST_CAPABILITY:
            return Settled("bfloat16", "the GPU has units for it, and models are published in it")
        return Settled("float16", "the GPU has no units for bfloat16")
    if machine.has_bf16_units:
        return Settled("bfloat16", "this CPU multiplies bfloat16 matrices in hardware")
    return Settled("float32", "this CPU has no units for bfloat16, so that float32 is faster")


def _threads(config: EngineConfig, machine: MachineFacts) -> Settled:
    if config.threads:
        return Settled(config.threads, ASKED)
    return Settled(machine.threads, "as many as torch uses in this process")


def _context_length(config: EngineConfig, spec: ModelSpec) -> Settled:
    most = spec.context_length
    if config.context_length > most:
        raise InputError(
            f"context_length {config.context_length} is more than the model's {most}: set it to "
            f"{most} or less, or leave it out",
            param="context_length",
        )
    if config.context_length:
        return Settled(config.context_length, ASKED)
    return Settled(most, "the model's own limit")


def _number(wanted: int, auto: int, defaults: Mapping[str, int], device: str) -> Settled:
    """What is wanted, or what suits the device where that is left open by `auto`."""
    if wanted != auto:
        return Settled(wanted, ASKED)
    return Settled(defaults[device], f"{DEFAULT} on a {'GPU' if device == 'cuda' else 'CPU'}")


def _check_sizes(config: EngineConfig, device: str) -> None:
    if config.num_blocks and config.memory:
        raise InputError("memory and num_blocks both size the KV cache: give one", param="memory")
    if device == "cuda" and config.max_seqs > MOST_GPU_ROWS:
        raise InputError(
            f"max_seqs {config.max_seqs} is more than a GPU's steps can have: set it to "
            f"{MOST_GPU_ROWS} or less",
            param="max_seqs",
        )


# --- switches ------------------------------------------------------------------------------------


def _as_asked(config: EngineConfig, key: str) -> Settled:
    """Of a switch that works everywhere."""
    value = getattr(config, key)
    default = next(field.default for field in fields(config) if field.name == key)
    return Settled(value, DEFAULT if value == default else ASKED)


def _attention(config: EngineConfig, spec: ModelSpec, here: Here, block_size: int) -> Settled:
    if config.attention in ("sdpa", "naive"):
        return Settled(config.attention, ASKED)
    obstacle = _why_no_flash(spec, here, block_size)
    if config.attention == "flash":
        _refuse("attention", "flash", obstacle, "sdpa")
        return Settled("flash", ASKED)
    if obstacle:
        return Settled("sdpa", f"torch's kernel, since flash does not run here: {obstacle}")
    return Settled("flash", "our kernels run here and read the KV cache's blocks where they lie")


def _why_no_flash(spec: ModelSpec, here: Here, block_size: int) -> str:
    """Why our attention kernels do not run here; empty if they do."""
    if not here.is_gpu:
        return here.why_no_cpu_kernels()
    if obstacle := here.why_no_triton():
        return obstacle
    if spec.head_dim < FEWEST_DIMENSIONS:
        return (
            f"its kernels need heads of {FEWEST_DIMENSIONS} dimensions or more, not {spec.head_dim}"
        )
    if block_size < FEWEST_BLOCK_TOKENS or block_size & (block_size - 1):
        return (
            "its kernels need a block_size that is a power of two from "
            f"{FEWEST_BLOCK_TOKENS} on, not {block_size}"
        )
    return ""


def _fused_kernels(config: EngineConfig, here: Here) -> Settled:
    obstacle = here.why_no_triton if here.is_gpu else here.why_no_cpu_kernels
    return _on_or_off(config, "fused_kernels", obstacle, "our kernels for the small steps run here")


def _gemv(config: EngineConfig, here: Here) -> Settled:
    gain = "our kernel reads a matrix for few rows faster than the vendor's library"
    return _on_or_off(config, "gemv", here.why_no_triton, gain)


def _sampler(config: EngineConfig, here: Here) -> Settled:
    if config.sampler == "sort":
        return Settled("sort", ASKED)
    obstacle = here.why_no_triton()
    if config.sampler == "pivot":
        _refuse("sampler", "pivot", obstacle, "sort")
        return Settled("pivot", ASKED)
    if obstacle:
        return Settled("sort", f"pivot does not run here: {obstacle}")
    return Settled("pivot", "our kernels draw on the GPU without sorting the vocabulary")


def _weights(config: EngineConfig, here: Here, layer_kinds: frozenset[str]) -> Settled:
    if config.weights == "dense":
        return Settled("dense", ASKED)
    blocks = sorted(layer_kinds & here.machine.packs)
    obstacle = ""
    if here.is_gpu:
        obstacle = f"there are packed kernels for the CPU only, and the device is {here.device}"
    elif not blocks:
        obstacle = "the model's layers are not stored in 4- to 8-bit blocks"
    else:
        obstacle = here.machine.why_no_cpu_kernels()
    if config.weights == "packed":
        _refuse("weights", "packed", obstacle, "dense")
        return Settled("packed", ASKED)
    if obstacle:
        return Settled("dense", obstacle)
    return Settled("packed", f"our kernels multiply the file's {' and '.join(blocks)} as they lie")


_GAINS = {
    "graphs": "a GPU replays a step sooner than Python launches its kernels",
    "overlap": "the host plans the next step while the GPU computes this one",
}
_ON_A_CPU = {
    "graphs": "CUDA graphs need an NVIDIA GPU, and the device is cpu",
    "overlap": "on a CPU, planning and computing take the same cores",
}


def _pace(config: EngineConfig, key: str, here: Here, others: Mapping[str, str]) -> Settled:
    """`graphs` or `overlap`, given what the other switches came to."""
    wanted = getattr(config, key)
    if wanted == "off":
        return Settled("off", ASKED)
    conflict = excluded(key, others)
    if wanted == "on":
        if key == "graphs" and not here.is_gpu:
            _refuse("graphs", "on", _ON_A_CPU["graphs"], by_key("graphs").off)
        check_conflicts({**others, key: "on"})
        return Settled("on", ASKED)
    if not here.is_gpu:
        return Settled("off", _ON_A_CPU[key])
    if conflict:
        return Settled("off", f"it does not work with {conflict.replace('=', ' ')}")
    return Settled("on", _GAINS[key])


def _check_capture(config: EngineConfig, graphs: Settled) -> None:
    if config.capture == "start" and graphs.value == "off":
        raise InputError(
            f"capture start: graphs is off here ({graphs.why}), so there is nothing to capture; "
            "leave capture out",
            param="capture",
        )


INVARIANT = {"attention": "flash", "fused_kernels": "on"}
"""Switches whose other values let a token's bits depend on the tokens beside it: torch cuts the
work of a whole step into parts for its threads and vectors."""


def _why_not_invariant(here: Here, found: Mapping[str, Settled]) -> str:
    """What makes the bits of a row depend on the rows beside it; empty if nothing does."""
    if here.is_gpu:
        return (
            "cuBLAS picks a kernel by the number of rows, so a product's bits depend on the batch: "
            "use device cpu"
        )
    if obstacle := here.why_no_cpu_kernels():
        return obstacle
    for key, needed in INVARIANT.items():
        if (value := found[key].value) != needed:
            return (
                f"with {key} {value} a token's bits depend on those beside it: use {key} {needed}"
            )
    return ""


def _on_or_off(config: EngineConfig, key: str, why_not: Callable[[], str], gain: str) -> Settled:
    """A switch whose kernels run here or not. `why_not` is asked only if it matters."""
    wanted = getattr(config, key)
    if wanted == "off":
        return Settled("off", ASKED)
    obstacle = why_not()
    if wanted == "on":
        _refuse(key, "on", obstacle, "off")
        return Settled("on", ASKED)
    return Settled("off", obstacle) if obstacle else Settled("on", gain)


def _refuse(key: str, value: str, obstacle: str, instead: str) -> None:
    """`InputError` for an explicit wish, if there is an obstacle."""
    if obstacle:
        raise InputError(f"{key} {value}: {obstacle}; or use {key} {instead}", param=key)
