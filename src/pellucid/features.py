"""The switchboard: one row per optimization.

This table is the single list of what can be switched. `pellucid features`, the parity tests, the
ablation bench, the README's table and the pages of docs/switches read it. It holds strings only and
imports no implementation. A new optimization is a row here, a field of `EngineConfig`, an answer of
`resolve.py` and its own files; tests name what was forgotten.

Exactness says what a switch may change:

    bit           the same bits
    token         the same greedy tokens in fp32; in bf16 only near-ties may flip
    distribution  the same sampling law, tested statistically
    lossy         bounded and measured, figures with the switch
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pellucid.errors import InputError

Exactness = Literal["bit", "token", "distribution", "lossy"]


class Feature(NamedTuple):
    key: str
    """Name of the switch and of its `EngineConfig` field."""
    summary: str
    """What it does, in about ten words, as the README's table says it."""
    choices: tuple[str, ...]
    """Values worth comparing, as text; for a number, examples."""
    default: str
    off: str
    """The value that means: without this optimization."""
    exactness: Exactness
    conflicts: tuple[str, ...]
    """`key=value` of other switches that it does not work with."""
    homes: tuple[str, ...]
    """Every file that has to do with it, the one to read first; besides those that choose
    (`resolve.py`) and compose (`assembly.py`)."""
    names: tuple[str, ...]
    """Identifiers that belong to it: no file but its homes uses them (tests/unit/test_homes.py)."""
    about: str
    paper: str


FEATURES: tuple[Feature, ...] = (
    Feature(
        key="kv_cache",
        summary="keep the keys and values of earlier tokens instead of recomputing them",
        choices=("on", "off"),
        default="on",
        off="off",
        exactness="token",
        conflicts=(),
        homes=("scheduler.py",),
        names=("kv_cache", "_keeps_kv"),
        about=(
            "Keep the keys and values of all earlier tokens, so that a new token costs one row of "
            "work instead of the whole prefix again. Off forgets them after every token."
        ),
        paper="Pope et al. 2022, arXiv:2211.05102",
    ),
    Feature(
        key="attention",
        summary="compute attention in tiles, without ever writing the n×n scores",
        choices=("flash", "sdpa", "naive"),
        default="auto",
        off="naive",
        exactness="token",
        conflicts=(),
        homes=(
            "attention/flash.py",
            "attention/flash_gpu.py",
            "kernels/triton/decode.py",
            "kernels/triton/flash.py",
            "kernels/triton/flash_hopper.py",
            "attention/sdpa.py",
            "attention/naive.py",
        ),
        names=(
            "FlashAttention",
            "FlashGpuAttention",
            "NaiveAttention",
            "SdpaAttention",
            "decode_attention",
            "flash_attention",
            "flash_attention_hopper",
            "attend_rows",
        ),
        about=(
            "Compute attention in tiles with a running softmax instead of writing the n×n score "
            "matrix to memory: by our kernel that reads the pages in place (flash) or torch's "
            "(sdpa). Off is the formula as it stands in the textbook."
        ),
        paper="Dao et al. 2022, arXiv:2205.14135",
    ),
    Feature(
        key="batching",
        summary="let a waiting request join the running batch at any step",
        choices=("continuous", "dynamic", "static"),
        default="continuous",
        off="static",
        exactness="token",
        conflicts=(),
        homes=("admission.py",),
        names=("batching", "BatchAdmission", "ContinuousAdmission", "patience"),
        about=(
            "Let a waiting request join at the next step. Dynamic lets new ones in only when the "
            "whole running batch has ended, static only when the next batch is full as well or "
            "nothing more is expected."
        ),
        paper="Yu et al. 2022 (Orca), OSDI",
    ),
    Feature(
        key="chunked_prefill",
        summary="compute long prompts in pieces, so that running answers go on",
        choices=("8192", "512", "64", "7", "1", "0"),
        default="-1",
        off="0",
        exactness="token",
        conflicts=(),
        homes=("scheduler.py",),
        names=("_budget",),
        about=(
            "Compute a long prompt in pieces of so many tokens a step, so that the answers already "
            "running do not wait for it. Off computes every prompt in one step; the default (-1) "
            "is 512 on a CPU and 8192 on a GPU."
        ),
        paper="Agrawal et al. 2023 (Sarathi), arXiv:2308.16369",
    ),
    Feature(
        key="fused_kernels",
        summary="do the small steps between the matrices in one call",
        choices=("on", "off"),
        default="auto",
        off="off",
        exactness="token",
        conflicts=(),
        homes=("kernels/ops.py", "kernels/triton/ops.py"),
        names=("CpuOps", "TritonOps"),
        about=(
            "Do each small step between the matrices (add + norm; norm, rotation and KV write; "
            "activation · up) in one call instead of five to ten tensor operations."
        ),
        paper="Ivanov et al. 2021, arXiv:2007.00072",
    ),
    Feature(
        key="gemv",
        summary="multiply a few rows by a GPU kernel of our own",
        choices=("on", "off"),
        default="auto",
        off="off",
        exactness="token",
        conflicts=(),
        homes=(
            "kernels/triton/gemv.py",
            "kernels/triton/units.py",
            "kernels/triton/products.py",
            "kernels/reference/steps.py",
        ),
        names=("gemv", "GemvUnits", "FusedProduct"),
        about=(
            "On a GPU, multiply up to 8 rows (2 if the matrix is large) by a kernel of our own "
            "that also takes the norm before the matrix and the residual or activation after it: "
            "at batch 1 reading the matrix is all the work there is. Off leaves products to the "
            "vendor's library."
        ),
        paper="Williams et al. 2009 (Roofline), doi:10.1145/1498765.1498785",
    ),
    Feature(
        key="sampler",
        summary="draw tokens by noise and search instead of sorting the vocabulary",
        choices=("pivot", "sort"),
        default="auto",
        off="sort",
        exactness="distribution",
        conflicts=(),
        homes=("sampling/pivot.py", "kernels/triton/sample.py", "kernels/triton/threshold.py"),
        names=("Pivot", "largest_logits", "search_rows"),
        about=(
            "On a GPU, draw by adding noise to the logits and taking the maximum (Gumbel-max), and "
            "find where top-k and top-p cut by searching for the value instead of sorting the "
            "vocabulary. Off sorts, and inverts the cumulative distribution."
        ),
        paper="Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030",
    ),
    Feature(
        key="graphs",
        summary="record a GPU step once, then replay it in one call",
        choices=("on", "off"),
        default="auto",
        off="off",
        exactness="bit",
        conflicts=("attention=naive", "attention=sdpa"),
        homes=("runner/executors.py", "runner/clock.py", "runner/build.py"),
        names=("CudaGraphExecutor", "CUDAGraph", "Recording", "graphs", "capture_all"),
        about=(
            "On a GPU, record a step of up to 4,096 tokens once for each shape that it is padded "
            "to, and replay it in one call, instead of launching some two hundred kernels from "
            "Python."
        ),
        paper="Gray 2019, Getting Started with CUDA Graphs (NVIDIA)",
    ),
    Feature(
        key="overlap",
        summary="plan the next step while the GPU computes this one",
        choices=("on", "off"),
        default="auto",
        off="off",
        exactness="token",
        conflicts=("kv_cache=off",),
        homes=("runner/pipeline.py", "scheduler.py", "request.py"),
        names=("OverlapPipeline", "UNKNOWN", "in_flight"),
        about=(
            "While the device computes a step, plan the next one and handle the answers of the one "
            "before; sampled tokens reach the next step without the host having seen them. Off "
            "waits for every step."
        ),
        paper="Zhu et al. 2024 (NanoFlow), arXiv:2408.12757",
    ),
    Feature(
        key="weights",
        summary="multiply by 4- and 8-bit blocks without expanding them",
        choices=("packed", "dense"),
        default="auto",
        off="dense",
        exactness="token",
        conflicts=(),
        homes=("quant/packed.py", "quant/linear.py"),
        names=("Packed", "PackedLinear", "PackedEmbedding"),
        about=(
            "Multiply by 4- and 8-bit blocks as they lie in a GGUF file: a decode step reads each "
            "weight once, and reads seven times fewer bytes than in fp32. Off expands them on load."
        ),
        paper="Frantar et al. 2022 (GPTQ), arXiv:2210.17323",
    ),
)


def by_key(key: str) -> Feature:
    """The row of `key`; KeyError if there is none."""
    for feature in FEATURES:
        if feature.key == key:
            return feature
    raise KeyError(key)


def check_conflicts(settings: Mapping[str, str]) -> None:
    """`InputError` if a switch that is set on excludes the setting of another one.

    settings: switch → value as the user gave it; `auto` gives way and never conflicts.
    """
    for feature in FEATURES:
        if settings.get(feature.key) in (None, "auto", feature.off):
            continue
        if other := excluded(feature.key, settings):
            key, value = feature.key, settings[feature.key]
            raise InputError(
                f"{key} {value} does not work with {other.replace('=', ' ')}: set {key} "
                f"{feature.off} or leave it out, or change the other",
                param=key,
            )


def excluded(key: str, settings: Mapping[str, str]) -> str:
    """The setting (`other=value`) among `settings` that the switch `key` does not work with."""
    pairs = (conflict.split("=") for conflict in by_key(key).conflicts)
    return next((f"{k}={v}" for k, v in pairs if settings.get(k) == v), "")


def markdown_table() -> str:
    """The switchboard as the README shows it, each switch with a link to its page."""
    lines = ["| switch | off | what it does |", "|---|---|---|"]
    for f in FEATURES:
        lines.append(f"| [`{f.key}`](docs/switches/{f.key}.md) | {f.off} | {f.summary} |")
    return "\n".join(lines)
