"""config.json → `ModelSpec`, with the keys as the transformers library reads them.

A config class reads a fixed set of keys and passes over the rest; so do we. The keys that change
the answer are handled here or refused by name. Those of the rotary embedding are in `rope_hf.py`.

`auto_map`, by which a config asks for Python files of its folder to be imported, is passed over: no
code of a model is ever run. What we compute follows from `architectures` alone, and a custom model
that hides behind a known name fails the comparison of its tensors with the spec.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import ModelError, one_line
from pellucid.model.fields import Fields, short
from pellucid.model.rope_hf import rope_fields
from pellucid.model.spec import ModelSpec

FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "SmolLM3ForCausalLM": "smollm3",
    "Gemma3ForCausalLM": "gemma3",
    "Gemma3ForConditionalGeneration": "gemma3",
}
MODEL_TYPES = {family: family for family in FAMILIES.values()} | {"gemma3_text": "gemma3"}
"""What `model_type` says where `architectures` is left out."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2},
    "mistral": {
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "qwen2": {"max_position_embeddings": 32768, "num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": {
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "sliding_window": 4096,
    },
    "smollm3": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 2e6,
        "tie_word_embeddings": True,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
    },
    "gemma3": {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 1,
    },
}
"""What the config class of each family takes for a key that the file leaves out."""

HAS_ATTENTION_BIAS = ("llama", "qwen3", "smollm3", "gemma3")
HAS_MLP_BIAS = ("llama", "smollm3")
"""Families whose config class reads `attention_bias` and `mlp_bias`."""

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
NEUTRAL: dict[str, Any] = {
    "quantization_config": {},
    "compression_config": {},
    "num_experts": 0,
    "num_local_experts": 0,
    "n_routed_experts": 0,
    "use_bidirectional_attention": False,
    "partial_rotary_factor": 1.0,
    "attention_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
}


def spec_from_config(
    config: Mapping[str, Any], generation: Mapping[str, Any], path: Path
) -> ModelSpec:
    """The spec of a config. `path` is named in errors."""
    family = family_of(config, path)
    text = Fields(config, path).section("text_config")
    get = Fields({**DEFAULTS[family], **config, **text}, path)
    get.refuse(NEUTRAL, "this engine does not know that variant; use the plain model")
    hidden, heads = get.integer("hidden_size"), get.integer("num_attention_heads")
    rope = rope_fields(get, family)
    kv_heads = get.integer("num_key_value_heads", heads)
    head_dim = get.integer("head_dim", hidden // heads)
    get.check_heads(heads, kv_heads, head_dim)
    vocab_size = get.integer("vocab_size")
    beside = Fields(generation, path.with_name("generation_config.json"))
    bias = get.flag("attention_bias", False) if family in HAS_ATTENTION_BIAS else False
    return ModelSpec(
        family=family,
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=get.integer("intermediate_size"),
        num_layers=get.num_layers("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        norm_eps=get.number("rms_norm_eps", 1e-6),
        tied_head=get.flag("tie_word_embeddings", False),
        qk_norm=family in ("qwen3", "gemma3"),
        qkv_bias=bias or family == "qwen2",
        o_bias=bias,
        mlp_bias=family in HAS_MLP_BIAS and get.flag("mlp_bias", False),
        activation=ACTIVATIONS[
            get.name(
                "hidden_activation" if family == "gemma3" else "hidden_act", "silu", ACTIVATIONS
            )
        ],
        bos_token_id=next(iter(get.token_ids("bos_token_id")), None),
        eos_token_ids=end_tokens(get, beside, vocab_size),
        **rope,
        **window_fields(get, family),
        **(gemma_fields(get) if family == "gemma3" else {}),
        rope_layers=rope_layers(get) if family == "smollm3" else (),
    )


def family_of(config: Mapping[str, Any], path: Path) -> str:
    names = config.get("architectures") or []
    name = names[0] if isinstance(names, list) and names else None
    if not names and isinstance(config.get("model_type"), str):
        name = config["model_type"]  # a folder saved by hand often has no more
        if name in MODEL_TYPES:
            return MODEL_TYPES[name]
    if not isinstance(name, str) or name not in FAMILIES:
        raise ModelError(
            one_line(
                f"{path}: architecture {short(name)} is not supported; known are "
                f"{', '.join(FAMILIES)}"
            )
        )
    return FAMILIES[name]


def end_tokens(get: Fields, generation: Fields, vocab_size: int) -> tuple[int, ...]:
    """Ids that end an answer: generation_config.json's, else config.json's. One beyond the
    vocabulary, as published models have, can never be drawn and ends nothing."""
    ids = generation.token_ids("eos_token_id") or get.token_ids("eos_token_id")
    return tuple(token for token in ids if token < vocab_size)


def gemma_fields(get: Fields) -> dict[str, Any]:
    """What only Gemma 3 has."""
    return {
        "sandwich_norms": True,
        "norm_offset": 1.0,
        "embedding_scale": math.sqrt(get.integer("hidden_size")),
        "attention_scale": get.number("query_pre_attn_scalar") ** -0.5,
        "attention_softcap": get.optional_number("attn_logit_softcapping"),
        "logit_softcap": get.optional_number("final_logit_softcapping"),
    }


def window_fields(get: Fields, family: str) -> dict[str, Any]:
    """The sliding window and which layers have it."""
    types = layer_types(get, family)
    window = get.integer("sliding_window", 0, minimum=0) if "sliding_attention" in types else 0
    if not window:
        return {}
    return {
        "sliding_window": window,
        "local_layers": tuple(kind == "sliding_attention" for kind in types),
    }


def layer_types(get: Fields, family: str) -> list[str]:
    """For each layer full_attention or sliding_attention, as the family's config class has it."""
    layers = get.num_layers("num_hidden_layers")
    full, sliding = "full_attention", "sliding_attention"
    default = [full] * layers
    if family == "mistral":
        default = [sliding] * layers
    elif family in ("qwen2", "qwen3") and get.flag("use_sliding_window", False):
        start = get.integer("max_window_layers", 28, minimum=0)
        default = [sliding if layer >= start else full for layer in range(layers)]
    elif family == "smollm3" and get.flag("use_sliding_window", False):
        default = [full if rotates else sliding for rotates in rope_layers(get)]
    elif family == "gemma3":
        pattern = get.integer("sliding_window_pattern", 6)
        default = [sliding if (layer + 1) % pattern else full for layer in range(layers)]
    types = get.get("layer_types") or default
    named = isinstance(types, list) and all(kind in (full, sliding) for kind in types)
    if not named or len(types) != layers:
        raise get.error("layer_types", f"must name {full} or {sliding} for each of {layers} layers")
    if family in ("llama", "mistral") and types != default:
        raise get.error("layer_types", f"that differ are unknown in a {family} model; remove them")
    if family.startswith("qwen") and not get.flag("use_sliding_window", False):
        return [full] * layers
    return list(types)


def rope_layers(get: Fields) -> tuple[bool, ...]:
    """SmolLM3: which layers rotate. `no_rope_layers` lists them with 1, the others with 0."""
    layers = get.num_layers("num_hidden_layers")
    listed = get.get("no_rope_layers")
    if listed is None:
        interval = get.integer("no_rope_layer_interval", 4)
        return tuple((layer + 1) % interval != 0 for layer in range(layers))
    whole = isinstance(listed, list) and len(listed) >= layers
    if not whole or any(entry not in (0, 1) for entry in listed):
        raise get.error("no_rope_layers", f"must be 0 or 1 for each of {layers} layers")
    return tuple(bool(rotates) for rotates in listed[:layers])
