"""GGUF metadata → `ModelSpec`.

Keys start with the architecture: `llama.block_count`. A converter writes only what an inference
program needs to be told, so nearly every key matters, and one that we do not know is refused rather
than passed over. What is nowhere in the metadata (vocabulary size, tied head, biases) follows from
which tensors there are.

Source: the GGUF specification in the ggml repository; llama.cpp's loader for the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import ModelError
from pellucid.model.fields import Fields, short
from pellucid.model.spec import ModelSpec, RopeScaling, yarn_attention_factor
from pellucid.text.codec import END_OF_TURN

FAMILIES = ("llama", "qwen2", "qwen3", "smollm3", "gemma3")
"""Mistral's files call themselves llama."""

READ = frozenset(
    {
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "vocab_size",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.layer_norm_rms_epsilon",
        "attention.key_length",
        "attention.value_length",
        "attention.sliding_window",
        "rope.freq_base",
        "rope.dimension_count",
        "rope.scale_linear",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
    }
)
READ_GEMMA = frozenset(
    {
        "attention.sliding_window_pattern",
        "rope.freq_base_swa",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    }
)
NEUTRAL: dict[str, Any] = {
    "expert_count": 0,
    "expert_used_count": 0,
    "leading_dense_block_count": 0,
    "attention.causal": True,
    "rope.scaling.yarn_ext_factor": 1.0,
    "tensor_data_layout": "Meta AI original pth",
    "logit_scale": 1.0,
    "embedding_scale": 1.0,
    "residual_scale": 1.0,
    "attention.scale": 0.0,
}
"""Keys that we do not act on, with the one value at which that is right."""


def spec_from_gguf(
    metadata: Mapping[str, Any],
    *,
    vocab_size: int,
    tied_head: bool,
    qkv_bias: bool = False,
    o_bias: bool = False,
    mlp_bias: bool = False,
    rope_factors: tuple[float, ...] = (),
    path: Path,
) -> ModelSpec:
    """The spec of a GGUF file. What metadata does not say, its tensors do (the keywords)."""
    family = family_of(metadata, path)
    get = Fields(metadata, path, f"{family}.")
    check_keys(get)
    heads = get.integer("attention.head_count")
    hidden = get.integer("embedding_length")
    head_dim = get.integer("attention.key_length", hidden // heads)
    kv_heads = get.integer("attention.head_count_kv", heads)
    get.check_heads(heads, kv_heads, head_dim)
    get.refuse(
        {"attention.value_length": head_dim, "rope.dimension_count": head_dim},
        f"heads of {head_dim} dimensions must have as many values and rotate whole",
    )
    return ModelSpec(
        family=family,
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=get.integer("feed_forward_length"),
        num_layers=get.num_layers("block_count"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        context_length=get.context("context_length"),
        norm_eps=decimal(get.number("attention.layer_norm_rms_epsilon")),
        rope_theta=decimal(
            get.number("rope.freq_base", 1e6 if family == "gemma3" else 1e4, above=1.0)
        ),
        rope_scaling=rope_scaling(get, rope_factors, head_dim),
        tied_head=tied_head,
        qk_norm=family in ("qwen3", "gemma3"),
        qkv_bias=qkv_bias,
        o_bias=o_bias,
        mlp_bias=mlp_bias,
        bos_token_id=first(Fields(metadata, path).token_ids("tokenizer.ggml.bos_token_id")),
        eos_token_ids=end_tokens(Fields(metadata, path), vocab_size),
        **(gemma_fields(get) if family == "gemma3" else window_fields(get)),
        rope_layers=smollm3_rope_layers(get) if family == "smollm3" else (),
    )


def family_of(metadata: Mapping[str, Any], path: Path) -> str:
    """The architecture; `ModelError` if we do not know it or the file is only a part."""
    family = metadata.get("general.architecture")
    if family not in FAMILIES:
        raise ModelError(
            f"{path}: architecture {family!r} is not supported; known are {', '.join(FAMILIES)}"
        )
    if metadata.get("split.count", 1) > 1:
        raise ModelError(
            f"{path}: one of {metadata['split.count']} parts; join them with llama-gguf-split "
            "--merge"
        )
    return str(family)


def window_fields(get: Fields) -> dict[str, Any]:
    """Mistral's sliding window, which all layers have."""
    return {"sliding_window": get.integer("attention.sliding_window", 0, minimum=0)}


def smollm3_rope_layers(get: Fields) -> tuple[bool, ...]:
    """Every fourth layer does not rotate. The file does not say so: llama.cpp takes the 4 for
    granted."""
    return tuple((layer + 1) % 4 != 0 for layer in range(get.num_layers("block_count")))


def gemma_fields(get: Fields) -> dict[str, Any]:
    """What only Gemma 3 has. Constants that GGUF leaves out are those of llama.cpp."""
    layers, hidden = get.num_layers("block_count"), get.integer("embedding_length")
    pattern = get.get("attention.sliding_window_pattern") or 6
    if isinstance(pattern, int):
        pattern = [bool((layer + 1) % pattern) for layer in range(layers)]
    if len(pattern) != layers:
        raise get.error("attention.sliding_window_pattern", f"must have {layers} entries")
    # The 27B model, known by its depth, scales queries by hidden/heads instead of head_dim.
    scale = (hidden / get.integer("attention.head_count")) ** -0.5 if layers == 62 else 0.0
    return {
        "activation": "gelu_tanh",
        "sandwich_norms": True,
        "embedding_scale": math.sqrt(hidden),
        "attention_scale": scale,
        "attention_softcap": get.optional_number("attn_logit_softcapping"),
        "logit_softcap": get.optional_number("final_logit_softcapping"),
        "rope_theta_local": decimal(get.number("rope.freq_base_swa", 1e4, above=1.0)),
        "sliding_window": get.integer("attention.sliding_window"),
        "local_layers": tuple(bool(local) for local in pattern),
    }


def rope_scaling(get: Fields, factors: tuple[float, ...], head_dim: int) -> RopeScaling:
    """How the file stretches its rotary frequencies. `factors`: its tensor rope_freqs, if any."""
    kind = get.name("rope.scaling.type", "", ("", "none", "linear", "yarn"))
    # Before `rope.scaling` there was one key for linear scaling. As in llama.cpp, 0 is 1, and a
    # factor scales where no type is given, but not where the type is none.
    factor = get.optional_number("rope.scaling.factor") or get.optional_number("rope.scale_linear")
    if kind == "none" or not factor:
        kind, factor = kind if kind == "yarn" else "none", 1.0
    kind = kind or "linear"
    if factors:
        if kind != "none":
            raise get.error("rope.scaling.type", f"= {kind} beside rope_freqs is not supported")
        if len(factors) != head_dim // 2 or not all(0 < factor < math.inf for factor in factors):
            raise ModelError(
                f"{get.path}: tensor 'rope_freqs.weight' must hold {head_dim // 2} positive "
                "numbers, one per pair of dimensions; fetch the file again"
            )
        return RopeScaling(kind="llama3", factors=factors)
    if kind == "yarn":
        # llama.cpp takes attn_factor for a correction upon the formula's value.
        return RopeScaling(
            kind="yarn",
            factor=factor,
            original_context=get.context(
                "rope.scaling.original_context_length", get.context("context_length")
            ),
            beta_fast=get.number("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=get.number("rope.scaling.yarn_beta_slow", 1.0),
            attention_factor=get.number("rope.scaling.attn_factor", 1.0)
            * yarn_attention_factor(factor),
        )
    if kind == "linear" and factor != 1.0:
        return RopeScaling(kind="linear", factor=factor)
    return RopeScaling()


def end_tokens(get: Fields, vocab_size: int) -> tuple[int, ...]:
    """Ids that end an answer: those declared, and those whose name says so."""
    declared = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
    ids = [token for key in declared for token in get.token_ids(key)]
    tokens = get.get("tokenizer.ggml.tokens")
    texts = tokens if isinstance(tokens, list) else []
    ids += [token for token, text in enumerate(texts) if text in END_OF_TURN]
    return tuple(dict.fromkeys(token for token in ids if token < vocab_size))


def first(ids: tuple[int, ...]) -> int | None:
    return ids[0] if ids else None


def decimal(value: float) -> float:
    """The short decimal that a float32 was written from: 1e-05 for 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def check_keys(get: Fields) -> None:
    """Raise `ModelError` if the architecture has a setting that we do not know how to follow."""
    known = READ | NEUTRAL.keys() | (READ_GEMMA if "gemma" in get.prefix else set())
    get.refuse(NEUTRAL, "this engine does not know that variant; use the plain model")
    for key in get.values:
        if key.startswith(get.prefix) and key.removeprefix(get.prefix) not in known:
            raise get.error(
                key.removeprefix(get.prefix),
                f"= {short(get.values[key])} is an unknown setting, and ignoring it could change "
                "the answers; use the plain model",
            )
