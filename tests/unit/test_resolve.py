"""What every switch comes to on every kind of machine, decided on a machine without a GPU."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from typing import Any

import pytest
import torch

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.facts import CPU_KERNEL_DTYPES, MachineFacts
from pellucid.features import FEATURES, by_key
from pellucid.kernels import KINDS
from pellucid.kernels.cpu.step import TYPES
from pellucid.model.spec import ModelSpec
from pellucid.resolve import (
    BLOCK_SIZES,
    CHUNKS,
    MOST_GPU_ROWS,
    Resolved,
    resolve,
)
from pellucid.runner.shapes import DECODE_ROWS

SPEC = ModelSpec(
    family="llama",
    vocab_size=96,
    hidden_size=64,
    intermediate_size=64,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    context_length=128,
    norm_eps=1e-5,
    rope_theta=1e4,
)
NARROW = dataclasses.replace(SPEC, head_dim=8)
Q4 = frozenset({"Q4_1", "F32"})

PACKS = frozenset(KINDS)
NO_COMPILER = "no C compiler found (cc): install gcc"
CPU = MachineFacts(threads=2, packs=PACKS)
BF16_CPU = MachineFacts(has_bf16_units=True, packs=PACKS)
BARE_CPU = MachineFacts(why_no_cpu_kernels=lambda: NO_COMPILER, packs=PACKS)
H100 = MachineFacts(gpu="NVIDIA H100", capability=(9, 0), has_triton=True, packs=PACKS)
NO_TRITON = dataclasses.replace(H100, has_triton=False)
T4 = MachineFacts(gpu="Tesla T4", capability=(7, 5), has_triton=True, packs=PACKS)


def resolved(
    machine: MachineFacts, spec: ModelSpec = SPEC, kinds: frozenset[str] = Q4, **options: Any
) -> Resolved:
    return resolve(EngineConfig(**options), spec, machine, kinds)


OFF_GPU = {"gemv": "off", "sampler": "sort", "graphs": "off", "overlap": "off"}
ON_GPU = {"gemv": "on", "sampler": "pivot", "graphs": "on", "overlap": "on"}
TORCH_GPU = {**OFF_GPU, "overlap": "on", "attention": "sdpa", "fused_kernels": "off"}

AUTO: list[tuple[str, MachineFacts, dict[str, Any], dict[str, Any]]] = [
    (
        "CPU",
        CPU,
        {},
        {
            **OFF_GPU,
            "device": "cpu",
            "dtype": "float32",
            "threads": 2,
            "block_size": 16,
            "chunked_prefill": 512,
            "context_length": 128,
            "attention": "flash",
            "fused_kernels": "on",
            "weights": "packed",
            "has_gpu_kernels": False,
        },
    ),
    ("CPU with bfloat16", BF16_CPU, {}, {"dtype": "bfloat16", "attention": "flash"}),
    ("CPU in float16", CPU, {"dtype": "float16"}, {"attention": "sdpa", "fused_kernels": "off"}),
    (
        "CPU without a compiler",
        BARE_CPU,
        {},
        {"attention": "sdpa", "fused_kernels": "off", "weights": "dense"},
    ),
    (
        "H100",
        H100,
        {},
        {
            **ON_GPU,
            "device": "cuda",
            "dtype": "bfloat16",
            "block_size": 128,
            "chunked_prefill": 8192,
            "attention": "flash",
            "fused_kernels": "on",
            "weights": "dense",
            "has_gpu_kernels": True,
        },
    ),
    (
        "H100, on its CPU",
        H100,
        {"device": "cpu"},
        {**OFF_GPU, "device": "cpu", "weights": "packed"},
    ),
    ("H100 in float32", H100, {"dtype": "float32"}, {**ON_GPU, "dtype": "float32"}),
    ("no Triton", NO_TRITON, {}, {**TORCH_GPU, "dtype": "bfloat16", "has_gpu_kernels": False}),
    ("older card", T4, {}, {**TORCH_GPU, "dtype": "float16", "has_gpu_kernels": False}),
    ("small blocks", H100, {"block_size": 8}, {**ON_GPU, "attention": "sdpa", "graphs": "off"}),
    ("odd blocks", H100, {"block_size": 48}, {"attention": "sdpa", "graphs": "off"}),
    ("textbook attention", H100, {"attention": "naive"}, {**ON_GPU, "graphs": "off"}),
    ("no KV cache", H100, {"kv_cache": "off"}, {**ON_GPU, "overlap": "off"}),
    ("overlap on a CPU", CPU, {"overlap": "on"}, {"overlap": "on"}),
    ("whole prompts", H100, {"chunked_prefill": 0}, {"chunked_prefill": 0}),
    ("graphs off", H100, {"graphs": "off"}, {**ON_GPU, "graphs": "off"}),
    ("capture at the start", H100, {"capture": "start"}, {"capture": "start", "graphs": "on"}),
    ("most sequences", H100, {"max_seqs": 4096}, {"graphs": "on"}),
    ("more on a CPU", CPU, {"max_seqs": 4097}, {"graphs": "off"}),
    (
        "batch-invariant",
        BF16_CPU,
        {"batch_invariant": "on"},
        {"dtype": "float32", "attention": "flash", "fused_kernels": "on", "weights": "packed"},
    ),
    (
        "batch-invariant in bfloat16",
        BF16_CPU,
        {"batch_invariant": "on", "dtype": "bfloat16", "weights": "dense"},
        {"dtype": "bfloat16", "weights": "dense"},
    ),
    ("batch-invariant on a GPU's host", H100, {"batch_invariant": "on", "device": "cpu"}, OFF_GPU),
    ("threads", H100, {"threads": 3, "context_length": 64}, {"threads": 3, "context_length": 64}),
]


@pytest.mark.parametrize(
    ("machine", "options", "wanted"), [c[1:] for c in AUTO], ids=[c[0] for c in AUTO]
)
def test_what_is_left_open_comes_to_what_the_machine_can_do(
    machine: MachineFacts, options: dict[str, Any], wanted: dict[str, Any]
) -> None:
    found = dataclasses.asdict(resolved(machine, **options))
    assert {key: found[key] for key in wanted} == wanted


def test_heads_too_narrow_for_the_kernels() -> None:
    found = resolved(H100, NARROW)
    assert (found.attention, found.graphs, found.gemv) == ("sdpa", "off", "on")
    assert "heads of 16 dimensions or more, not 8" in found.why["attention"]
    assert resolved(CPU, NARROW).attention == "flash"


def test_weights_that_are_no_blocks_are_dense() -> None:
    for kinds in ({"BF16"}, {"F16", "F32"}, set()):
        found = resolved(CPU, kinds=frozenset(kinds))
        assert found.weights == "dense"
        assert "not stored in 4- to 8-bit blocks" in found.why["weights"]


REFUSALS: list[tuple[MachineFacts, dict[str, Any], str, str]] = [
    (CPU, {"device": "cuda"}, "device", "torch finds no usable GPU; use device cpu"),
    (CPU, {"graphs": "on"}, "graphs", "graphs on: CUDA graphs need an NVIDIA GPU"),
    (CPU, {"gemv": "on"}, "gemv", "for an NVIDIA GPU, and the device is cpu; or use gemv off"),
    (CPU, {"sampler": "pivot"}, "sampler", "for an NVIDIA GPU.*; or use sampler sort"),
    (H100, {"gemv": "on", "device": "cpu"}, "gemv", "the device is cpu"),
    (
        CPU,
        {"capture": "start"},
        "capture",
        "graphs is off here .CUDA graphs need.*leave capture out",
    ),
    (H100, {"capture": "start", "graphs": "off"}, "capture", "graphs is off here .asked for"),
    (BARE_CPU, {"attention": "flash"}, "attention", "attention flash: no C compiler"),
    (BARE_CPU, {"fused_kernels": "on"}, "fused_kernels", "fused_kernels on: no C compiler"),
    (
        BARE_CPU,
        {"weights": "packed"},
        "weights",
        "weights packed: no C compiler.*use weights dense",
    ),
    (CPU, {"dtype": "float16", "fused_kernels": "on"}, "fused_kernels", "not float16"),
    (CPU, {"dtype": "float16", "attention": "flash"}, "attention", "not float16; or use .* sdpa"),
    (H100, {"weights": "packed"}, "weights", "for the CPU only, and the device is cuda"),
    (NO_TRITON, {"attention": "flash"}, "attention", "need Triton, which is not installed"),
    (NO_TRITON, {"fused_kernels": "on"}, "fused_kernels", "need Triton"),
    (NO_TRITON, {"gemv": "on"}, "gemv", "need Triton"),
    (NO_TRITON, {"sampler": "pivot"}, "sampler", "need Triton"),
    (NO_TRITON, {"graphs": "on"}, "graphs", "does not work with attention sdpa"),
    (T4, {"attention": "flash"}, "attention", "capability 8.0 or more, and Tesla T4 has 7.5"),
    (T4, {"gemv": "on"}, "gemv", "capability 8.0 or more"),
    (H100, {"attention": "flash", "block_size": 8}, "attention", "power of two from 16 on, not 8"),
    (H100, {"graphs": "on", "block_size": 8}, "graphs", "does not work with attention sdpa"),
    (H100, {"graphs": "on", "attention": "naive"}, "graphs", "does not work with attention naive"),
    (H100, {"overlap": "on", "kv_cache": "off"}, "overlap", "does not work with kv_cache off"),
    (H100, {"max_seqs": 4097}, "max_seqs", "max_seqs 4097 .* set it to 4096 or less"),
    (CPU, {"context_length": 129}, "context_length", "more than the model's 128.*128 or less"),
    (
        H100,
        {"batch_invariant": "on"},
        "batch_invariant",
        "cuBLAS picks a kernel by the number of rows, so a product's bits depend on the batch: use "
        "device cpu; or use batch_invariant off",
    ),
    (BARE_CPU, {"batch_invariant": "on"}, "batch_invariant", "batch_invariant on: no C compiler"),
    (CPU, {"batch_invariant": "on", "dtype": "float16"}, "batch_invariant", "not float16"),
    *(
        (
            CPU,
            {"batch_invariant": "on", key: value},
            "batch_invariant",
            f"with {key} {value} a token's bits depend on those beside it: use {key} {needed};",
        )
        for key, value, needed in (
            ("attention", "sdpa", "flash"),
            ("attention", "naive", "flash"),
            ("fused_kernels", "off", "on"),
        )
    ),
    (CPU, {"memory": 1.0, "num_blocks": 8}, "memory", "both size the KV cache"),
]


@pytest.mark.parametrize(
    ("machine", "options", "param", "words"), REFUSALS, ids=lambda v: str(v)[:50]
)
def test_what_cannot_be_had_is_refused_by_name(
    machine: MachineFacts, options: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        resolved(machine, **options)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    "machine", [CPU, BARE_CPU, H100, NO_TRITON, T4], ids=lambda m: m.gpu or "cpu"
)
def test_every_value_has_a_reason(machine: MachineFacts) -> None:
    found = resolved(machine)
    named = {field.name for field in dataclasses.fields(Resolved)} - {"why", "has_gpu_kernels"}
    assert set(found.why) == named
    for reason in found.why.values():
        assert reason and not reason.endswith(".") and "auto" not in reason
    assert set(found.switches) == {feature.key for feature in FEATURES}
    assert "auto" not in found.switches.values() and "-1" not in found.switches.values()


def test_a_wish_is_granted_or_refused_never_changed() -> None:
    """Every pair of switches, each at every choice, on every kind of machine."""
    for one, other in itertools.combinations(FEATURES, 2):
        for pair in itertools.product(one.choices, other.choices):
            wish = dict(zip((one.key, other.key), pair, strict=True))
            options: dict[str, Any] = {
                k: int(v) if k == "chunked_prefill" else v for k, v in wish.items()
            }
            for machine in (CPU, BARE_CPU, H100, NO_TRITON, T4):
                try:
                    found = resolved(machine, **options)
                except InputError as refusal:
                    assert refusal.param in wish
                else:
                    assert {key: found.switches[key] for key in wish} == wish
                    for key, value in wish.items():
                        is_default = value == by_key(key).default
                        assert found.why[key] == ("the default" if is_default else "asked for")


def test_the_off_value_works_everywhere() -> None:
    off: dict[str, Any] = {
        f.key: int(f.off) if f.key == "chunked_prefill" else f.off for f in FEATURES
    }
    for machine in (CPU, BARE_CPU, H100, NO_TRITON, T4):
        assert resolved(machine, **off).switches == {f.key: f.off for f in FEATURES}


def test_kernels_are_compiled_only_if_something_depends_on_them() -> None:
    def compile_them() -> str:
        raise AssertionError("nobody needs them")

    machine = MachineFacts(why_no_cpu_kernels=compile_them, packs=PACKS)
    resolved(machine, attention="sdpa", fused_kernels="off", weights="dense")
    resolved(dataclasses.replace(H100, why_no_cpu_kernels=compile_them))


def test_the_limits_are_those_of_the_kernels() -> None:
    assert DECODE_ROWS[-1] == MOST_GPU_ROWS
    assert {str(dtype).removeprefix("torch.") for dtype in TYPES} == set(CPU_KERNEL_DTYPES)
    assert all(hasattr(torch, name) for name in CPU_KERNEL_DTYPES)


def test_the_documentation_names_the_automatic_sizes() -> None:
    about = by_key("chunked_prefill").about
    docs = {f.name: f.metadata["doc"] for f in dataclasses.fields(EngineConfig)}
    for device, where in (("cpu", "CPU"), ("cuda", "GPU")):
        assert f"{CHUNKS[device]} on a {where}" in about
        assert f"{CHUNKS[device]} on a {where}" in docs["chunked_prefill"]
        assert f"{BLOCK_SIZES[device]} on a {where}" in docs["block_size"]


def test_resolving_needs_no_torch() -> None:
    code = "import sys, pellucid.resolve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
