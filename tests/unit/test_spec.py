"""config.json as people publish it → ModelSpec, in the old and the new spelling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import ModelError
from pellucid.model.spec import ModelSpec, RopeScaling, expected_weights
from pellucid.model.spec_hf import FAMILIES, spec_from_config

PATH = Path("somewhere/config.json")
LLAMA31: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
QWEN25: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3: dict[str, Any] = {
    **QWEN25,
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rope_scaling": None,
    "sliding_window": None,
}
MISTRAL: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "vocab_size": 32000,
}
GEMMA: dict[str, Any] = {
    "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "eos_token_id": [1, 106],
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
}
SMOLLM3: dict[str, Any] = {
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "bos_token_id": None,
    "eos_token_id": 128012,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "layer_types": ["full_attention"] * 36,
    "max_position_embeddings": 65536,
    "max_window_layers": 28,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 128256,
}
ALL = {
    "llama": LLAMA31,
    "qwen2": QWEN25,
    "qwen3": QWEN3,
    "smollm3": SMOLLM3,
    "mistral": MISTRAL,
    "gemma3": GEMMA,
}


def parse(config: dict[str, Any], **generation: Any) -> ModelSpec:
    return spec_from_config(config, generation, PATH)


def problem(config: dict[str, Any]) -> str:
    with pytest.raises(ModelError) as caught:
        parse(config)
    assert str(PATH) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_llama() -> None:
    spec = parse(LLAMA31, eos_token_id=[128001, 128008, 128009])
    assert (spec.family, spec.head_dim, spec.num_kv_heads) == ("llama", 128, 8)
    assert spec.rope_scaling == RopeScaling(
        kind="llama3",
        factor=8.0,
        original_context=8192,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
    )
    assert spec.context_length == 131072
    assert spec.bos_token_id == 128000
    assert spec.eos_token_ids == (128001, 128008, 128009), "generation_config.json wins"
    assert parse(LLAMA31).eos_token_ids == (128001,)
    assert not (spec.tied_head or spec.qkv_bias or spec.qk_norm or spec.sandwich_norms)
    assert spec.kv_numbers_per_token == 2 * 32 * 8 * 128


def test_llama_biases() -> None:
    spec = parse({**LLAMA31, "attention_bias": True, "mlp_bias": True})
    assert spec.qkv_bias and spec.o_bias and spec.mlp_bias
    weights = expected_weights(spec)
    assert weights["layers.0.o_bias"] == (4096,) and weights["layers.0.gate_bias"] == (14336,)


def test_qwen2() -> None:
    spec = parse(QWEN25)
    assert spec.qkv_bias and not spec.o_bias and spec.tied_head
    assert spec.sliding_window == 0, "written down, but not used"
    sliding = parse({**QWEN25, "use_sliding_window": True})
    assert [sliding.window(layer) for layer in (0, 20, 21, 23)] == [0, 0, 32768, 32768]


def test_qwen3() -> None:
    spec = parse(QWEN3)
    assert spec.qk_norm and not spec.qkv_bias and spec.head_dim == 128
    shapes = expected_weights(spec)
    assert shapes["layers.27.q"] == (2048, 1024) and shapes["layers.0.q_norm"] == (128,)
    assert "lm_head" not in shapes and len(shapes) == 2 + 28 * 11


def test_smollm3() -> None:
    spec = parse(SMOLLM3)
    assert [i for i in range(36) if not spec.rotates(i)] == list(range(3, 36, 4))
    assert spec.tied_head and spec.head_dim == 128 and spec.rope_theta == 5e6
    assert not (spec.qk_norm or spec.qkv_bias or spec.sliding_window)


def test_smollm3_layers_without_rotation() -> None:
    bare = {k: v for k, v in SMOLLM3.items() if not k.startswith(("no_rope", "layer_", "rope_"))}
    assert parse(bare) == replace(parse(SMOLLM3), rope_theta=2e6), "what the config class takes"
    every_third = parse({**bare, "no_rope_layer_interval": 3, "num_hidden_layers": 6})
    assert [every_third.rotates(i) for i in range(6)] == [True, True, False] * 2
    longer = parse({**SMOLLM3, "no_rope_layers": [0] + [1] * 40})
    assert [i for i in range(36) if not longer.rotates(i)] == [0]
    sliding = parse({**bare, "use_sliding_window": True, "sliding_window": 512})
    assert [i for i in range(36) if sliding.window(i)] == list(range(3, 36, 4))
    wrong: Any
    for wrong in ([1] * 35, [1, 2] * 18, [[]] * 36, "1110"):
        assert "no_rope_layers must be 0 or 1 for each of 36" in problem(
            {**SMOLLM3, "no_rope_layers": wrong}
        )


def test_mistral() -> None:
    spec = parse(MISTRAL)
    assert {spec.window(layer) for layer in range(32)} == {4096}
    assert parse({**MISTRAL, "sliding_window": None}).sliding_window == 0
    left_out = {key: value for key, value in MISTRAL.items() if key != "sliding_window"}
    assert parse(left_out).sliding_window == 4096, "what the config class takes"


def test_gemma3() -> None:
    spec = parse(GEMMA)
    assert spec.activation == "gelu_tanh" and spec.sandwich_norms and spec.qk_norm
    assert (spec.norm_offset, spec.embedding_scale) == (1.0, 1152**0.5)
    assert (spec.rope_theta, spec.rope_theta_local) == (1e6, 1e4)
    assert [i for i in range(26) if not spec.window(i)] == [5, 11, 17, 23]
    assert spec.eos_token_ids == (1, 106) and spec.tied_head
    assert parse({**GEMMA, "query_pre_attn_scalar": 168}).scale == 168**-0.5
    assert parse({**GEMMA, "final_logit_softcapping": 30.0}).logit_softcap == 30.0


def test_gemma3_sparse_text_config() -> None:
    """The larger Gemmas leave out whatever equals the config class's default."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    spec = parse(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "eos_token_id": [1, 106],
            "text_config": text,
        }
    )
    assert (spec.num_heads, spec.num_kv_heads, spec.head_dim) == (8, 4, 256)
    assert (spec.vocab_size, spec.context_length, spec.sliding_window) == (262208, 131072, 1024)
    assert (spec.rope_scaling.kind, spec.rope_scaling.factor) == ("linear", 8.0)
    assert spec.eos_token_ids == (1, 106)


def test_new_spelling_says_the_same() -> None:
    """transformers 5 writes rope_parameters and layer_types."""
    new = {k: v for k, v in LLAMA31.items() if k not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {**LLAMA31["rope_scaling"], "rope_theta": 500000.0}
    assert parse(new) == parse(LLAMA31)
    gone = ("rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern")
    new = {k: v for k, v in GEMMA.items() if k not in gone}
    new["layer_types"] = [
        "full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(26)
    ]
    new["rope_parameters"] = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    assert parse(new) == parse(GEMMA)
    new["rope_parameters"]["full_attention"] = {
        "rope_theta": 1e6, "rope_type": "linear", "factor": 8.0,
    }  # fmt: skip
    old = {**GEMMA, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert parse(new) == parse(old)
    new = {**QWEN3, "layer_types": ["full_attention"] * 28, "rope_theta": None}
    new["rope_parameters"] = {"rope_theta": 1e6, "rope_type": "default"}
    assert parse(new) == parse(QWEN3)


def test_yarn() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    spec = parse({**QWEN25, "rope_scaling": scaling})
    assert spec.context_length == 131072
    assert spec.rope_scaling.attention_factor == pytest.approx(1.13862943611)
    old = parse({**QWEN25, "rope_scaling": {"type": "yarn", "factor": 4.0}})
    assert old == spec, "the trained context defaults to max_position_embeddings"
    both = {**scaling, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 16, "truncate": False}
    found = parse({**QWEN25, "rope_scaling": both}).rope_scaling
    assert (found.attention_factor, found.beta_fast, found.truncate) == (1.0, 16.0, False)
    given = parse({**QWEN25, "rope_scaling": {**scaling, "attention_factor": 1.5}})
    assert given.rope_scaling.attention_factor == 1.5


@pytest.mark.parametrize("family", ALL)
def test_code_of_the_repository_is_passed_over(family: str) -> None:
    config = {**ALL[family], "auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}
    assert parse(config) == parse(ALL[family])


def test_rope_section_added_by_hand_counts() -> None:
    """Model cards tell people to add `rope_scaling`; transformers 5 has saved another section."""
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    saved = {"rope_type": "default", "rope_theta": 1e6}
    both = parse({**QWEN25, "rope_theta": None, "rope_parameters": saved, "rope_scaling": yarn})
    assert both == parse({**QWEN25, "rope_scaling": yarn})
    assert (both.rope_scaling.kind, both.context_length, both.rope_theta) == ("yarn", 131072, 1e6)
    linear = {"type": "linear", "factor": 8.0}
    sections = {"full_attention": saved, "sliding_attention": {"rope_theta": 1e4}}
    gemma = parse({**GEMMA, "rope_parameters": sections, "rope_scaling": linear})
    assert gemma == parse({**GEMMA, "rope_scaling": linear})


def test_original_context_beside_the_section_comes_first() -> None:
    inside = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
    config = {**QWEN25, "original_max_position_embeddings": 16384, "rope_scaling": inside}
    assert parse(config).rope_scaling.original_context == 16384
    config["rope_scaling"] = {"rope_type": "yarn", "factor": 4.0}
    assert parse(config).rope_scaling.original_context == 16384
    config["original_max_position_embeddings"] = None
    assert parse(config).rope_scaling.original_context == 32768


def test_rope_keys_that_change_nothing() -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
    plain = parse({**QWEN25, "rope_scaling": yarn})
    assert parse({**QWEN25, "rope_scaling": {**yarn, "finetuned": True, "odd": 1}}) == plain


@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id"])
def test_a_negative_id_is_none(key: str) -> None:
    spec = parse({**LLAMA31, key: -1})
    assert {"bos_token_id": spec.bos_token_id, "eos_token_id": spec.eos_token_ids}[key] in (
        None,
        (),
    )
    assert parse(LLAMA31, eos_token_id=[-1]).eos_token_ids == (128001,)


def test_ends_beyond_the_vocabulary_are_none() -> None:
    assert parse(LLAMA31, eos_token_id=[128009, 128256]).eos_token_ids == (128009,)
    assert parse({**LLAMA31, "eos_token_id": 1 << 70}).eos_token_ids == ()


def test_numbers_written_as_floats() -> None:
    assert parse({**LLAMA31, "max_position_embeddings": 131072.0}) == parse(LLAMA31)


@pytest.mark.parametrize("family", ALL)
def test_model_type_where_architectures_is_left_out(family: str) -> None:
    model_type = "gemma3_text" if family == "gemma3" else family
    config = {**ALL[family], "model_type": model_type}
    nothing: Any
    for nothing in (None, []):
        assert parse({**config, "architectures": nothing}) == parse(ALL[family])
    del config["architectures"]
    assert parse(config) == parse(ALL[family])
    assert "'mamba2' is not supported" in problem({**config, "model_type": "mamba2"})


def test_unknown_architecture_lists_the_known() -> None:
    text = problem({"architectures": ["MambaForCausalLM"]})
    assert "'MambaForCausalLM'" in text and all(name in text for name in FAMILIES)
    problem({"architectures": []})
    problem({})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**LLAMA31, "hidden_act": "relu2"}, "hidden_act = 'relu2' is not supported"),
        ({**GEMMA, "hidden_activation": "gelu"}, "hidden_activation = 'gelu'"),
        ({**LLAMA31, "quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({**QWEN3, "num_experts": 128}, "num_experts = 128 is not supported"),
        ({**LLAMA31, "partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({**LLAMA31, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({**LLAMA31, "rope_scaling": {"rope_type": "longrope"}}, "'longrope'"),
        ({**QWEN25, "rope_scaling": {"type": "yarn", "attn_factor": 2}}, "attn_factor = 2"),
        ({**QWEN25, "rope_scaling": {"type": "yarn", "factor": 1e9}}, "beyond 16777216 tokens"),
        ({**LLAMA31, "rope_theta": 1.0}, "rope_theta must be a number above 1"),
        ({**LLAMA31, "max_position_embeddings": 1 << 25}, "must be 1 to 16777216"),
        ({**LLAMA31, "rope_scaling": {"rope_type": ["yarn"]}}, "rope_type = ['yarn']"),
        ({**LLAMA31, "hidden_act": ["silu"]}, "hidden_act = ['silu'] is not supported"),
        ({**LLAMA31, "architectures": [["Llama"]]}, "architecture ['Llama'] is not supported"),
        ({**LLAMA31, "text_config": [1]}, "text_config must be an object"),
        ({**GEMMA, "layer_types": 7}, "layer_types must name"),
        ({**LLAMA31, "rope_scaling": {"type": "linear"}}, "factor is missing"),
        ({**LLAMA31, "rope_scaling": "linear"}, "rope_scaling must be an object"),
        ({**LLAMA31, "layer_types": ["sliding_attention"] * 32}, "layer_types"),
        ({**GEMMA, "layer_types": ["full_attention"] * 3}, "layer_types must name"),
        ({**GEMMA, "layer_types": ["chunked_attention"] * 26}, "layer_types must name"),
        ({**GEMMA, "use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({**LLAMA31, "hidden_size": None}, "hidden_size is missing"),
        ({**LLAMA31, "hidden_size": "4096"}, "hidden_size must be a whole number"),
        ({**LLAMA31, "num_hidden_layers": 0}, "num_hidden_layers must be 1 to 10000, not 0"),
        ({**LLAMA31, "num_key_value_heads": 5}, "5 key-value heads do not fit"),
        ({**LLAMA31, "rms_norm_eps": 0}, "rms_norm_eps must be a number above 0"),
        ({**LLAMA31, "tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false"),
        ({**LLAMA31, "eos_token_id": "</s>"}, "eos_token_id must be a token id"),
        ({**LLAMA31, "head_dim": 127}, "heads of 127 dimensions"),
    ],
)
def test_what_we_do_not_know_is_refused(config: dict[str, Any], words: str) -> None:
    assert words in problem(config)


@pytest.mark.parametrize(("kv_heads", "nbytes"), [(8, 131_072), (1, 16_384), (32, 524_288)])
def test_keys_and_values_of_a_token_by_hand(kv_heads: int, nbytes: int) -> None:
    """16-bit keys and values of 32 layers, heads of 128 dimensions: 2 * 32 * heads * 128 * 2."""
    config = {**LLAMA31, "num_key_value_heads": kv_heads}
    assert 2 * parse(config).kv_numbers_per_token == nbytes


@pytest.mark.parametrize(
    "odd", [{"num_local_experts": 8}, {"architectures": ["MixtralForCausalLM"]}]
)
def test_experts_are_refused(odd: dict[str, Any]) -> None:
    assert "not supported" in problem({**MISTRAL, **odd})
