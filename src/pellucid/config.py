"""Every choice there is, in one frozen record.

A field is documented once, here; the command line's flags, the library's keywords and the docs are
made from it. Nothing is derived and nothing is read from disk or environment: what follows from a
choice (number of blocks, context length, the dtype behind "auto") lives in runtime objects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pellucid.errors import InputError


def option(
    default: Any, doc: str, choices: tuple[str, ...] = (), minimum: float | None = None
) -> Any:
    """A config field with its documentation, permitted values and smallest value."""
    return field(default=default, metadata={"doc": doc, "choices": choices, "minimum": minimum})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Configuration of one engine. Unknown names and values out of range raise `InputError`."""

    model: str = option(
        "smollm2",
        "alias (smollm2, gemma3-270m), Hub id, folder with config.json, or .gguf file",
    )
    revision: str = option("main", "branch, tag or commit of a Hub model")
    load_format: str = option(
        "auto",
        "auto reads the weights; dummy makes random weights of the shape in config.json",
        ("auto", "dummy"),
    )
    device: str = option("auto", "where the model runs", ("auto", "cpu", "cuda"))
    dtype: str = option(
        "auto",
        "number format of activations and KV cache; auto takes the fastest this machine has",
        ("auto", "float32", "bfloat16", "float16"),
    )
    threads: int = option(0, "CPU threads of the engine; 0 takes one per available core", minimum=0)
    context_length: int = option(
        0, "longest prompt plus answer, in tokens; 0 takes the model's own limit", minimum=0
    )
    memory: float = option(
        0.0,
        "GiB for the KV cache; 0 takes what is free, less a reserve, and no more than is useful",
        minimum=0.0,
    )
    block_size: int = option(
        0, "tokens in one block of the KV cache; 0 takes 16 on a CPU and 128 on a GPU", minimum=0
    )
    num_blocks: int = option(0, "blocks in the KV cache; 0 derives them from memory", minimum=0)
    max_seqs: int = option(64, "sequences in one step at most", minimum=1)
    max_waiting: int = option(
        1024, "answers that may wait in a server before it refuses new requests", minimum=1
    )

    batch_invariant: str = option(
        "off",
        "on: a seeded request gets the same tokens and log-probabilities, to the bit, whatever "
        "else is in the batch; slower, on a CPU only, and in float32 unless dtype is given",
        ("on", "off"),
    )

    kv_cache: str = option("on", "keep keys and values; off recomputes the prefix", ("on", "off"))
    attention: str = option(
        "auto",
        "attention implementation; auto takes flash where its kernels run, else sdpa",
        ("auto", "flash", "sdpa", "naive"),
    )
    fused_kernels: str = option(
        "auto",
        "norm, rotation and KV write, and gated activation in one call each; auto where possible",
        ("auto", "on", "off"),
    )
    gemv: str = option(
        "auto",
        "products of up to 8 rows (2 with large matrices) by our kernel, with the norm before and "
        "the sum or activation after them inside; auto on a GPU",
        ("auto", "on", "off"),
    )
    sampler: str = option(
        "auto",
        "how tokens are drawn: pivot searches for where top-k and top-p cut, sort orders the "
        "vocabulary; auto takes pivot on a GPU",
        ("auto", "pivot", "sort"),
    )
    graphs: str = option(
        "auto",
        "replay steps of up to 4,096 tokens as CUDA graphs; auto on a GPU with attention flash",
        ("auto", "on", "off"),
    )
    capture: str = option(
        "lazy",
        "when graphs are captured: each on first use (lazy), or all before the first request "
        "(start)",
        ("lazy", "start"),
    )
    overlap: str = option(
        "auto",
        "plan a step and handle the answers of the last one while the device computes; auto on a "
        "GPU",
        ("auto", "on", "off"),
    )
    batching: str = option(
        "continuous",
        "when a request may join: at any step, when the running batch has ended (dynamic), or "
        "when in addition a full batch waits (static)",
        ("continuous", "dynamic", "static"),
    )
    chunked_prefill: int = option(
        -1,
        "prompt tokens computed in one step at most; 0 does every prompt whole, -1 takes 512 on a "
        "CPU and 8192 on a GPU",
        minimum=-1,
    )
    weights: str = option(
        "auto",
        "packed multiplies 4- and 8-bit blocks as they lie in the file; dense expands them on load",
        ("auto", "packed", "dense"),
    )

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            check_field(spec, getattr(self, spec.name))

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> EngineConfig:
        """Like the constructor, but an unknown name is an `InputError` that lists them all."""
        known = [spec.name for spec in dataclasses.fields(cls)]
        for name in kwargs:
            if name not in known:
                raise InputError(
                    f"unknown option {name!r}; known are: {', '.join(known)}", param=name
                )
        return cls(**kwargs)


def check_field(spec: dataclasses.Field[Any], value: Any) -> None:
    """Raise `InputError` unless `value` has the type, choices and range that `spec` declares."""
    kind = type(spec.default)
    number = (
        kind in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool)
    )
    if not (isinstance(value, kind) and not isinstance(value, bool)) and not (
        kind is float and number
    ):
        raise InputError(
            f"{spec.name} must be of type {kind.__name__}, not {type(value).__name__}",
            param=spec.name,
        )
    choices = spec.metadata["choices"]
    if choices and value not in choices:
        raise InputError(
            f"{spec.name} must be one of {', '.join(choices)}, not {value!r}", param=spec.name
        )
    minimum = spec.metadata["minimum"]
    if minimum is not None and not value >= minimum:
        raise InputError(
            f"{spec.name} must be at least {minimum:g}, not {value!r}", param=spec.name
        )
