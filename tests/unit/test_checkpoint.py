"""Two roads to one model: a tiny one of each family is written as safetensors and as GGUF.

Both must open to the same spec and, bit for bit, the same weights under our names. The GGUF files
are written as the converter writes them: Q and K of Llama reordered, Gemma's norms with 1 added.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pellucid.config import EngineConfig
from pellucid.errors import ModelError
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.model.spec import ModelSpec, expected_weights

COMMON: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "architectures": ["LlamaForCausalLM"], "rope_theta": 5e5},
    "llama_bias": {
        **COMMON,
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "mistral": {
        **COMMON,
        "architectures": ["MistralForCausalLM"],
        "head_dim": 32,
        "sliding_window": 64,
    },
    "qwen2": {
        **COMMON,
        "architectures": ["Qwen2ForCausalLM"],
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    },
    "qwen3": {**COMMON, "architectures": ["Qwen3ForCausalLM"], "head_dim": 32},
    "smollm3": {
        **COMMON,
        "architectures": ["SmolLM3ForCausalLM"],
        "num_hidden_layers": 5,
        "tie_word_embeddings": True,
    },
    "gemma3": {
        **COMMON,
        "architectures": ["Gemma3ForCausalLM"],
        "num_hidden_layers": 7,
        "head_dim": 32,
        "tie_word_embeddings": True,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 32,
        "sliding_window": 16,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    },
}
FAMILIES = {"llama_bias": "llama"}
HF_NAMES = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "o_bias": "self_attn.o_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
    "gate_bias": "mlp.gate_proj.bias",
    "up_bias": "mlp.up_proj.bias",
    "down_bias": "mlp.down_proj.bias",
    "embed": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "lm_head": "lm_head.weight",
}
HF_GEMMA = HF_NAMES | {
    "attn_post_norm": "post_attention_layernorm.weight",
    "mlp_norm": "pre_feedforward_layernorm.weight",
    "mlp_post_norm": "post_feedforward_layernorm.weight",
}
GGUF_NAMES = {
    "attn_norm": "attn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "q_bias": "attn_q.bias",
    "k_bias": "attn_k.bias",
    "v_bias": "attn_v.bias",
    "o_bias": "attn_output.bias",
    "q_norm": "attn_q_norm.weight",
    "k_norm": "attn_k_norm.weight",
    "mlp_norm": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
    "gate_bias": "ffn_gate.bias",
    "up_bias": "ffn_up.bias",
    "down_bias": "ffn_down.bias",
    "attn_post_norm": "post_attention_norm.weight",
    "mlp_post_norm": "post_ffw_norm.weight",
    "embed": "token_embd.weight",
    "norm": "output_norm.weight",
    "lm_head": "output.weight",
}


def open_at(path: Path, **options: Any) -> Checkpoint:
    return open_checkpoint(EngineConfig(model=str(path), **options))


def foreign(name: str, names: dict[str, str], layers: str) -> str:
    """Our `name` in a file's own scheme."""
    if not name.startswith("layers."):
        return names[name]
    _, number, ours = name.split(".")
    return f"{layers}.{number}.{names[ours]}"


def hf_name(name: str, spec: ModelSpec) -> str:
    return foreign(name, HF_GEMMA if spec.family == "gemma3" else HF_NAMES, "model.layers")


def numbers(spec: ModelSpec, kind: str = "F32") -> dict[str, np.ndarray]:
    """Random weights by our names that `kind` holds exactly."""
    random = np.random.default_rng(7)
    found = {}
    for name, shape in expected_weights(spec).items():
        found[name] = random.standard_normal(shape).astype(np.float32)
        if len(shape) == 2 and kind != "F32":
            qtype = gguf.GGMLQuantizationType[kind]
            found[name] = gguf.quants.dequantize(gguf.quants.quantize(found[name], qtype), qtype)
    return found


def write_folder(
    folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor] | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if weights is not None:
        save_file(weights, folder / "model.safetensors")
    return folder


def hf_weights(spec: ModelSpec, ours: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {hf_name(name, spec): torch.from_numpy(value) for name, value in ours.items()}


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """The row order of Llama and SmolLM3 in GGUF, as the converter makes it."""
    shape = (heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, spec: ModelSpec, ours: dict[str, np.ndarray], kind: str = "F32") -> Path:
    arch = "llama" if spec.family == "mistral" else spec.family
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(spec.context_length)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(spec.num_layers)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.num_heads)
    writer.add_head_count_kv(spec.num_kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_layer_norm_rms_eps(spec.norm_eps)
    writer.add_vocab_size(spec.vocab_size)
    if spec.sliding_window:
        writer.add_sliding_window(spec.sliding_window)
    if spec.rope_scaling.kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(spec.rope_scaling.factor)
        writer.add_rope_scaling_orig_ctx_len(spec.rope_scaling.original_context)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_token_list([f"t{number}" for number in range(spec.vocab_size)])
    for name, value in ours.items():
        ending = name.rpartition(".")[2]
        if arch in ("llama", "smollm3") and ending in ("q", "q_bias", "k", "k_bias"):
            value = permute(value, spec.num_heads if ending[0] == "q" else spec.num_kv_heads)
        if name.endswith("norm"):
            value = value + np.float32(spec.norm_offset)
        theirs = foreign(name, GGUF_NAMES, "blk")
        if value.ndim == 2 and kind != "F32":
            qtype = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(theirs, gguf.quants.quantize(value, qtype), raw_dtype=qtype)
        else:
            writer.add_tensor(theirs, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def spec_of(config: dict[str, Any], tmp_path: Path) -> ModelSpec:
    return open_at(write_folder(tmp_path / "shape", config), load_format="dummy").spec


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
@pytest.mark.parametrize("family", CONFIGS)
def test_both_roads_meet(tmp_path: Path, family: str, kind: str) -> None:
    spec = spec_of(CONFIGS[family], tmp_path)
    ours = numbers(spec, kind)
    folder = write_folder(tmp_path / "m", CONFIGS[family], hf_weights(spec, ours))
    file = write_gguf(tmp_path / "m.gguf", spec, ours, kind)
    one, two = open_at(folder).weights(), open_at(file).weights()
    assert set(one.names()) == set(two.names()) == set(expected_weights(spec))
    for name, shape in expected_weights(spec).items():
        a, b = one[name], two[name]
        assert a.name == b.name == name and name in one and name in two
        assert a.shape == b.shape == shape
        assert len(shape) == 1 or b.kind == kind
        left, right = a.dense(torch.float32), b.dense(torch.float32)
        if name.endswith("norm"):
            left = left + spec.norm_offset
        assert torch.equal(left, right), name


@pytest.mark.parametrize("family", CONFIGS)
def test_both_specs_agree(tmp_path: Path, family: str) -> None:
    """All fields, but for the family of Mistral and where Gemma's norms get their 1."""
    spec = spec_of(CONFIGS[family], tmp_path)
    found = open_at(write_gguf(tmp_path / "m.gguf", spec, numbers(spec))).spec
    for field in ModelSpec.__dataclass_fields__:
        theirs, ours = getattr(found, field), getattr(spec, field)
        if field == "family" and ours == "mistral":
            assert theirs == "llama"
        elif field == "norm_offset":
            assert theirs == 0.0
        elif field == "attention_scale":
            assert found.scale == pytest.approx(spec.scale)
        elif field == "local_layers" and family == "mistral":
            assert [found.window(i) for i in range(2)] == [spec.window(i) for i in range(2)]
        else:
            assert theirs == ours, field


def test_gemma_is_gemma(tmp_path: Path) -> None:
    spec = spec_of(CONFIGS["gemma3"], tmp_path)
    assert [spec.window(layer) for layer in range(7)] == [16, 16, 16, 16, 16, 0, 16]
    assert (spec.rope_theta, spec.rope_theta_local) == (1e6, 1e4)
    assert spec.embedding_scale == 8.0
    assert spec.scale == 32**-0.5
    assert spec.norm_offset == 1.0


def test_weights_share_the_map(tmp_path: Path) -> None:
    """Reading a weight twice gives the same memory: no copy is made."""
    spec = spec_of(CONFIGS["qwen3"], tmp_path)
    ours = numbers(spec)
    for path in (
        write_gguf(tmp_path / "m.gguf", spec, ours),
        write_folder(tmp_path / "m", CONFIGS["qwen3"], hf_weights(spec, ours)),
    ):
        weights = open_at(path).weights()
        name = "layers.1.down"
        assert weights[name].tensors[0].data_ptr() == weights[name].tensors[0].data_ptr()


def test_weight_bytes(tmp_path: Path) -> None:
    spec = spec_of(CONFIGS["llama"], tmp_path)
    ours = numbers(spec, "Q8_0")
    total = sum(value.size for value in ours.values())
    flat = sum(value.size for value in ours.values() if value.ndim == 1)
    folder = write_folder(tmp_path / "m", CONFIGS["llama"], hf_weights(spec, ours))
    assert open_at(folder).weight_bytes == 4 * total
    assert open_at(folder, load_format="dummy").weight_bytes == 2 * total
    file = write_gguf(tmp_path / "m.gguf", spec, ours, "Q8_0")
    assert open_at(file).weight_bytes == 4 * flat + (total - flat) // 32 * 34


@pytest.mark.parametrize("family", CONFIGS)
def test_dummy(tmp_path: Path, family: str) -> None:
    checkpoint = open_at(write_folder(tmp_path / "m", CONFIGS[family]), load_format="dummy")
    assert checkpoint.name == "m" and checkpoint.tokenizer is None
    weights = checkpoint.weights(torch.float32, "cpu")
    for name, shape in expected_weights(checkpoint.spec).items():
        weight = weights[name]
        assert (weight.shape, weight.kind, weight.tensors[0].dtype) == (shape, "F32", torch.float32)
        assert torch.equal(weight.tensors[0], weights[name].tensors[0])
        if name.endswith("norm"):
            assert (weight.tensors[0] + checkpoint.spec.norm_offset == 1).all()
        elif len(shape) == 2:
            assert weight.tensors[0].std().item() == pytest.approx(0.02, rel=0.1)
    assert not torch.equal(weights["layers.0.q"].tensors[0], weights["layers.1.q"].tensors[0])
    assert checkpoint.weights()["embed"].tensors[0].dtype == torch.bfloat16


def test_dummy_gguf(tmp_path: Path) -> None:
    spec = spec_of(CONFIGS["llama"], tmp_path)
    file = write_gguf(tmp_path / "m.gguf", spec, numbers(spec))
    real, dummy = open_at(file).weights(), open_at(file, load_format="dummy").weights()
    assert not torch.equal(real["layers.0.q"].tensors[0], dummy["layers.0.q"].dense(torch.float32))


@pytest.mark.parametrize("name", ["m.bin", "m.pt", "m.pth", "m.pkl", "m.ckpt"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"pickle checkpoints are not read.*safetensors"):
        open_at(tmp_path / name)


def test_weight_file_instead_of_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="give the folder"):
        open_at(tmp_path / "model.safetensors")


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: no such file"):
        open_at(tmp_path)


def test_name_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "here", CONFIGS["llama"])
    monkeypatch.chdir(folder)
    assert open_at(Path("."), load_format="dummy").name == "here"
    assert open_at(folder / ".." / "here", load_format="dummy").name == "here"


def test_missing_wrong_and_extra(tmp_path: Path) -> None:
    config = CONFIGS["qwen2"]
    spec = spec_of(config, tmp_path)
    good = hf_weights(spec, numbers(spec))
    name = "model.layers.1.self_attn.k_proj.weight"

    def message(weights: dict[str, torch.Tensor]) -> str:
        with pytest.raises(ModelError) as caught:
            open_at(write_folder(tmp_path / "m", config, weights))
        text = str(caught.value)
        assert "\n" not in text and str(tmp_path / "m") in text
        return text

    open_at(write_folder(tmp_path / "m", config, good))
    assert "missing" in message({k: v for k, v in good.items() if k != name})
    assert f"{name!r} has shape [3, 64]" in message({**good, name: torch.zeros(3, 64)})
    assert f"{name!r} is stored as I64" in message({**good, name: torch.zeros(32, 64).long()})
    assert "'model.extra'" in message({**good, "model.extra": torch.zeros(1)})
    norm = "model.layers.0.self_attn.q_norm.weight"
    assert f"{norm!r}" in message({**good, norm: torch.zeros(16)})
    third = "model.layers.2.mlp.up_proj.weight"
    assert f"{third!r}" in message({**good, third: torch.zeros(96, 64)})
    harmless = "model.layers.0.self_attn.rotary_emb.inv_freq"
    open_at(write_folder(tmp_path / "m", config, {**good, harmless: torch.zeros(8)}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_head_may_be_stored_twice(tmp_path: Path, dtype: torch.dtype) -> None:
    config = CONFIGS["gemma3"]
    spec = spec_of(config, tmp_path)
    weights = {name: value.to(dtype) for name, value in hf_weights(spec, numbers(spec)).items()}
    once = open_at(write_folder(tmp_path / "once", config, weights))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    twice = open_at(write_folder(tmp_path / "twice", config, weights))
    assert "lm_head" not in twice.weights()
    assert (twice.spec, twice.weight_bytes) == (once.spec, once.weight_bytes)


@pytest.mark.parametrize("shape", [(40, 64), (39, 64)])
def test_a_head_that_is_not_the_embedding_is_not_tied(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    """Some engines would run it with this head and some with the embedding."""
    config = CONFIGS["gemma3"]
    spec = spec_of(config, tmp_path)
    weights = hf_weights(spec, numbers(spec))
    head = weights["model.embed_tokens.weight"].clone()
    head[20, -1] += 1
    folder = write_folder(tmp_path / "m", config, weights | {"lm_head.weight": head[: shape[0]]})
    with pytest.raises(ModelError, match="set tie_word_embeddings to false there, or remove"):
        open_at(folder)
    untied = write_folder(tmp_path / "m", {**config, "tie_word_embeddings": False})
    if shape == (40, 64):
        assert torch.equal(open_at(untied).weights()["lm_head"].tensors[0], head)


@pytest.mark.parametrize(
    ("text", "head"),
    [("language_model.model.", "language_model.lm_head."), ("model.language_model.", "lm_head.")],
)
def test_text_part_of_a_model_with_eyes(tmp_path: Path, text: str, head: str) -> None:
    plain = CONFIGS["gemma3"]
    spec = spec_of(plain, tmp_path)
    ours = numbers(spec)
    weights = {
        name.replace("model.", text, 1).replace("lm_head.", head): value
        for name, value in hf_weights(spec, ours).items()
    }
    weights["vision_tower.vision_model.x.weight"] = torch.zeros(2)
    weights["multi_modal_projector.y"] = torch.zeros(2)
    inner = {key: value for key, value in plain.items() if key != "architectures"}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner}
    checkpoint = open_at(write_folder(tmp_path / "m", config, weights))
    assert checkpoint.spec == spec
    q = checkpoint.weights()["layers.3.q"].dense(torch.float32)
    assert torch.equal(q, torch.from_numpy(ours["layers.3.q"]))


@pytest.mark.model
@pytest.mark.parametrize("alias", ["smollm2", "gemma3-270m"])
def test_real_model(alias: str) -> None:
    checkpoint = open_checkpoint(EngineConfig(model=alias))
    assert checkpoint.name == alias
    weights = checkpoint.weights()
    row = weights["embed"].select_rows(torch.tensor([5])).dense(torch.float32)
    assert row.shape == (1, checkpoint.spec.hidden_size) and 0 < row.std() < 1
    tokenizer = checkpoint.tokenizer
    assert tokenizer is not None and tokenizer is checkpoint.tokenizer


def test_the_tokenizers_end_is_an_end(tmp_path: Path) -> None:
    """A model tuned for chat: the tokenizer names the new end, config.json still the old one."""
    folder = write_folder(tmp_path / "m", CONFIGS["llama"])
    vocabulary = {f"t{number}": number for number in range(38)}
    added = [
        {"id": token, "content": name, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for token, name in ((38, "<|im_end|>"), (39, "<turn>"), (40, "<end_of_turn>"))
    ]
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0"}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": model}))
    names = {"eos_token": "<turn>", "bos_token": "t1"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    checkpoint = open_at(folder, load_format="dummy")
    assert checkpoint.spec.eos_token_ids == (2, 39, 38), "40 is beyond the vocabulary of the model"
