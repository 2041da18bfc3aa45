"""Safetensors files, single and sharded: read as they are, or refused in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pellucid.errors import ModelError
from pellucid.model.entries import check_weights
from pellucid.model.folder import Place, SafetensorsFiles, place_of, read_json
from pellucid.model.spec import ModelSpec, expected_weights
from pellucid.model.stored import SafetensorsWeights
from pellucid.model.weights import DummyWeights, dense_bytes

SPEC = ModelSpec(
    family="llama",
    vocab_size=20,
    hidden_size=8,
    intermediate_size=12,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    context_length=64,
    norm_eps=1e-5,
    rope_theta=1e4,
)
LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "mlp_norm",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}
NAMES = {
    "model.embed_tokens.weight": "embed",
    "model.norm.weight": "norm",
    "lm_head.weight": "lm_head",
} | {f"model.layers.{i}.{k}.weight": f"layers.{i}.{v}" for i in (0, 1) for k, v in LAYER.items()}


def tensors(dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    shapes = expected_weights(SPEC)
    generator = torch.Generator().manual_seed(1)
    return {k: torch.randn(shapes[v], generator=generator).to(dtype) for k, v in NAMES.items()}


def write_shards(folder: Path, weights: dict[str, torch.Tensor], count: int = 3) -> Path:
    index: dict[str, str] = {}
    for shard in range(count):
        file = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        part = dict(list(weights.items())[shard::count])
        save_file(part, folder / file)
        index |= dict.fromkeys(part, file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return path


def problem(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        files = SafetensorsFiles(folder, SPEC)
        check_weights(SPEC, files.entries, files.strangers, folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sharded", [False, True])
def test_round_trip(tmp_path: Path, dtype: torch.dtype, sharded: bool) -> None:
    weights = tensors(dtype)
    if sharded:
        write_shards(tmp_path, weights)
    else:
        save_file(weights, tmp_path / "model.safetensors")
    files = SafetensorsFiles(tmp_path, SPEC)
    check_weights(SPEC, files.entries, files.strangers, tmp_path)
    assert files.weight_bytes == dense_bytes(SPEC, dtype)
    found = SafetensorsWeights(files)
    for theirs, ours in NAMES.items():
        assert torch.equal(found[ours].tensors[0], weights[theirs])
        assert found[ours].dense(torch.float32).dtype == torch.float32
    with pytest.raises(KeyError):
        found["layers.0.q_norm"]


def test_one_file_of_another_name(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "weights.safetensors")
    assert len(SafetensorsFiles(tmp_path, SPEC).entries) == len(NAMES)
    save_file(tensors(), tmp_path / "weights2.safetensors")
    assert "2 safetensors files and no model.safetensors.index.json" in problem(tmp_path)
    save_file(tensors(), tmp_path / "model.safetensors")
    assert len(SafetensorsFiles(tmp_path, SPEC).entries) == len(NAMES)


def test_an_index_beside_the_whole_file_is_passed_over(tmp_path: Path) -> None:
    """It is left over from the shards that were joined."""
    save_file(tensors(), tmp_path / "model.safetensors")
    index = dict.fromkeys(NAMES, "model-00001-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert len(SafetensorsFiles(tmp_path, SPEC).entries) == len(NAMES)


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(tensors(), path)
    good = path.read_bytes()
    for length in [0, 4, 8, 50, len(good) // 2, len(good) - 1]:
        path.unlink()
        path.write_bytes(good[:length])
        text = problem(tmp_path)
        assert "model.safetensors: cut short or damaged" in text and "fetch it again" in text


def test_no_weights(tmp_path: Path) -> None:
    assert "no *.safetensors" in problem(tmp_path) and "dummy" in problem(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    text = problem(tmp_path)
    assert "pytorch_model.bin: pickle checkpoints are not read" in text
    assert "convert it to safetensors" in text


def test_index_is_checked(tmp_path: Path) -> None:
    index = write_shards(tmp_path, tensors())
    good = json.loads(index.read_text())
    (tmp_path / "model-00002-of-00003.safetensors").rename(tmp_path / "gone")
    assert "model-00002-of-00003.safetensors: no such file" in problem(tmp_path)
    (tmp_path / "gone").rename(tmp_path / "model-00002-of-00003.safetensors")
    for name in ("../other.safetensors", "/etc/passwd", "weights.bin"):
        good["weight_map"]["lm_head.weight"] = name
        index.write_text(json.dumps(good))
        assert repr(name) in problem(tmp_path)
    index.write_text("{}")
    assert "no weight_map" in problem(tmp_path)
    index.write_text("{")
    assert "not valid JSON" in problem(tmp_path)


def test_the_same_tensor_twice(tmp_path: Path) -> None:
    weights = tensors()
    write_shards(tmp_path, weights)
    save_file(
        {**dict(list(weights.items())[1::3]), "lm_head.weight": weights["lm_head.weight"]},
        tmp_path / "model-00002-of-00003.safetensors",
    )
    assert "is in two files" in problem(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.float64])
def test_unsupported_type(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = tensors()
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**weights, name: weights[name].to(dtype)}, tmp_path / "model.safetensors")
    text = problem(tmp_path)
    assert repr(name) in text and "not supported" in text and "BF16" in text


def test_foreign_names() -> None:
    after_attention = "model.layers.0.post_attention_layernorm.weight"
    up = Place("layers.12.up", "weight")
    assert place_of("model.layers.12.mlp.up_proj.weight", "llama") == up
    assert place_of(after_attention, "qwen3") == Place("layers.0.mlp_norm", "weight")
    assert place_of(after_attention, "gemma3") == Place("layers.0.attn_post_norm", "weight")
    assert place_of("lm_head.weight", "llama") == Place("lm_head", "weight")
    bias = place_of("model.layers.0.self_attn.q_proj.bias", "llama")
    assert bias == Place("layers.0.q_bias", "weight"), "a weight of its own"
    scale = place_of("model.layers.0.self_attn.q_proj.weight_scale", "llama")
    assert scale == Place("layers.0.q", "weight_scale")
    for unknown in ("mlp.experts.0.up_proj.weight", "self_attn.k_scale", "self_attn.weight"):
        assert place_of(f"model.layers.0.{unknown}", "llama") is None


def test_a_weight_of_several_tensors_is_one_entry_and_refused_by_name(tmp_path: Path) -> None:
    """Codes in one file and their scale in another: together they are one weight."""
    weights = tensors()
    q = "model.layers.0.self_attn.q_proj.weight"
    weights[q] = weights[q].to(torch.float8_e4m3fn)
    index = write_shards(tmp_path, {**weights, f"{q}_scale": torch.ones(8, 1)})
    entry = SafetensorsFiles(tmp_path, SPEC).entries["layers.0.q"]
    assert {role: tensor.shape for role, tensor in entry.tensors.items()} == {
        "weight": (8, 8), "weight_scale": (8, 1),
    }  # fmt: skip
    assert len({tensor.path for tensor in entry.tensors.values()}) == 2
    assert "is stored as 'F8_E4M3 weight + F32 weight_scale', which is not supported" in problem(
        tmp_path
    )
    index.unlink()


def test_bad_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(ModelError, match="not UTF-8 text"):
        read_json(path)
    path.write_text("[1]")
    with pytest.raises(ModelError, match="holds no JSON object"):
        read_json(path)


def test_dummy_depends_on_the_name_only() -> None:
    one = DummyWeights(SPEC, torch.float16, "cpu")
    two = DummyWeights(SPEC, torch.float16, "cpu")
    assert torch.equal(one["embed"].data, two["embed"].data)
    assert not torch.equal(one["embed"].data, one["lm_head"].data)
    assert "lm_head" in one and "layers.2.q" not in one
    assert one["embed"].kind == "F16"


def test_opening_reads_no_weights(tmp_path: Path) -> None:
    """1 GiB of weights opens in the time that its header takes (the file is one big hole)."""
    size = 1 << 30
    entry = {"dtype": "BF16", "shape": [size // 8192, 4096], "data_offsets": [0, size]}
    header = json.dumps({"lm_head.weight": entry}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    start = time.perf_counter()
    files = SafetensorsFiles(tmp_path, SPEC)
    assert SafetensorsWeights(files)["lm_head"].tensors[0][-1, -1] == 0
    assert time.perf_counter() - start < 1.0
    assert files.weight_bytes == size
