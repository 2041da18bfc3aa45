"""Shapes of well-known models: what their config.json says, as far as cost depends on it.

For the question "what if": none of them has to be here for its budget to be modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import InputError, suggestion
from pellucid.model.spec import ModelSpec
from pellucid.model.spec_hf import spec_from_config

KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings"),
)


def shape(model_type: str, *sizes: int, **more: Any) -> dict[str, Any]:
    """A config.json of `KEYS` and whatever else it takes."""
    return {"model_type": model_type, **dict(zip(KEYS, sizes, strict=True)), **more}


WINDOW = {"sliding_window": 512, "query_pre_attn_scalar": 256}
# fmt: off
SHAPES: Mapping[str, dict[str, Any]] = {
    "SmolLM2-135M": shape("llama", 576, 1536, 30, 9, 3, 64, 49152, 8192),
    "SmolLM2-1.7B": shape("llama", 2048, 8192, 24, 32, 32, 64, 49152, 8192),
    "SmolLM3-3B": shape("smollm3", 2048, 11008, 36, 16, 4, 128, 128256, 65536),
    "Llama-3.2-1B": shape("llama", 2048, 8192, 16, 32, 8, 64, 128256, 131072),
    "Llama-3.2-3B": shape("llama", 3072, 8192, 28, 24, 8, 128, 128256, 131072),
    "Llama-3.1-8B": shape("llama", 4096, 14336, 32, 32, 8, 128, 128256, 131072),
    "Llama-3.1-70B": shape("llama", 8192, 28672, 80, 64, 8, 128, 128256, 131072),
    "Llama-2-7B": shape("llama", 4096, 11008, 32, 32, 32, 128, 32000, 4096),
    "Mistral-7B-v0.3": shape("llama", 4096, 14336, 32, 32, 8, 128, 32768, 32768),
    "Qwen2.5-0.5B": shape("qwen2", 896, 4864, 24, 14, 2, 64, 151936, 32768),
    "Qwen2.5-7B": shape("qwen2", 3584, 18944, 28, 28, 4, 128, 152064, 131072),
    "Qwen3-0.6B": shape("qwen3", 1024, 3072, 28, 16, 8, 128, 151936, 40960),
    "Qwen3-4B": shape("qwen3", 2560, 9728, 36, 32, 8, 128, 151936, 40960),
    "Qwen3-8B": shape("qwen3", 4096, 12288, 36, 32, 8, 128, 151936, 40960),
    "Qwen3-32B": shape("qwen3", 5120, 25600, 64, 64, 8, 128, 151936, 40960),
    "Gemma-3-270M": shape("gemma3", 640, 2048, 18, 4, 1, 256, 262144, 32768, **WINDOW),
    "Gemma-3-1B": shape("gemma3", 1152, 6912, 26, 4, 1, 256, 262144, 32768, **WINDOW),
}
# fmt: on


def shape_named(name: str) -> ModelSpec:
    """The shape of a known model; `InputError` if it is not known."""
    if name not in SHAPES:
        raise InputError(
            f"there is no shape of {name!r} here.{suggestion(name, SHAPES)} A config.json will do",
            param="shape",
        )
    return spec_from_config(SHAPES[name], {}, Path(name))
