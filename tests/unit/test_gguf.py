"""GGUF files as they come: metadata read as the package reads it, damaged files refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.errors import ModelError
from pellucid.model.entries import check_weights
from pellucid.model.gguf import GgufFile, Reader
from pellucid.model.spec import expected_weights
from pellucid.model.stored import GgufWeights, rope_order

HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 32, 64, 2, 1, 16, 12
LAYER = {
    "attn_norm.weight": (HIDDEN,),
    "attn_q.weight": (HIDDEN, HIDDEN),
    "attn_k.weight": (HEAD_DIM, HIDDEN),
    "attn_v.weight": (HEAD_DIM, HIDDEN),
    "attn_output.weight": (HIDDEN, HIDDEN),
    "ffn_norm.weight": (HIDDEN,),
    "ffn_gate.weight": (INNER, HIDDEN),
    "ffn_up.weight": (INNER, HIDDEN),
    "ffn_down.weight": (HIDDEN, INNER),
}


def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCAB, HIDDEN),
        "output_norm.weight": (HIDDEN,),
    } | {f"blk.0.{name}": shape for name, shape in LAYER.items()}
    return {k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()}


def write(
    path: Path,
    *,
    arch: str = "llama",
    weights: dict[str, Any] | None = None,
    kinds: dict[str, str] | None = None,
    endian: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE,
    **keys: Any,
) -> Path:
    """A one-layer Llama. `keys` are metadata of the architecture, dots written as __."""
    writer = gguf.GGUFWriter(path, arch, endianess=endian)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(["<s>", "a", "ü", "日本", "", "<end_of_turn>", *"bcdefg"])
    writer.add_token_scores([0.5, -1.0] * 6)
    writer.add_token_types([1, 3] * 6)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for key, value in keys.items():
        name = f"{arch}.{key.replace('__', '.')}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    for name, array in (weights or tensors()).items():
        kind = (kinds or {}).get(name)
        writer.add_tensor(name, array, raw_dtype=gguf.GGMLQuantizationType[kind] if kind else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def problem(path: Path) -> str:
    """The one line that opening and checking `path` is refused with."""
    with pytest.raises(ModelError) as caught:
        file = GgufFile(path)
        check_weights(file.spec, file.entries, file.strangers, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_metadata_as_the_package_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", rope__scaling__finetuned=True)
    plain = gguf.GGUFReader(path)
    expected = {k: f.contents() for k, f in plain.fields.items() if not k.startswith("GGUF.")}
    found = Reader(path, "c").metadata()
    assert found == expected
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in expected.items()}
    assert [t.name for t in Reader(path, "c").tensors] == [t.name for t in plain.tensors]


def test_spec(tmp_path: Path) -> None:
    spec = GgufFile(write(tmp_path / "m.gguf")).spec
    assert (spec.family, spec.vocab_size, spec.head_dim) == ("llama", VOCAB, HEAD_DIM)
    assert (spec.norm_eps, spec.rope_theta) == (1e-5, 1e4)
    assert spec.tied_head and not spec.qkv_bias
    assert spec.bos_token_id == 0
    assert spec.eos_token_ids == (1, 5), "declared, and named like an end of turn"


def test_large_vocabulary_is_read_fast(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_token_list([f"token{number}" for number in range(100_000)])
    writer.add_token_scores([0.0] * 100_000)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    start = time.perf_counter()
    metadata = Reader(tmp_path / "m.gguf", "c").metadata()
    assert time.perf_counter() - start < 1.0
    assert metadata["tokenizer.ggml.tokens"][99_999] == "token99999"


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_rope_order_undoes_the_converter(heads: int) -> None:
    ours = np.arange(heads * 8 * 3).reshape(heads * 8, 3)
    theirs = ours.reshape(heads, 2, 4, 3).swapaxes(1, 2).reshape(ours.shape)
    assert torch.equal(
        torch.from_numpy(theirs)[rope_order(heads * 8, heads)], torch.from_numpy(ours)
    )


def test_only_llama_and_smollm3_are_reordered(tmp_path: Path) -> None:
    weights = tensors()
    for arch, same in (("llama", False), ("smollm3", False), ("qwen2", True)):
        path = write(tmp_path / f"{arch}.gguf", arch=arch, weights=weights)
        found = GgufWeights(GgufFile(path))
        for ours, theirs in (("q", "attn_q"), ("k", "attn_k")):
            stored = torch.from_numpy(weights[f"blk.0.{theirs}.weight"])
            assert torch.equal(found[f"layers.0.{ours}"].tensors[0], stored) == same
        stored = torch.from_numpy(weights["blk.0.attn_v.weight"])
        assert torch.equal(found["layers.0.v"].tensors[0], stored)


def test_rope_freqs_are_honoured(tmp_path: Path) -> None:
    factors = np.array([1.0, 1, 1.5, 2, 4, 8, 8, 8], np.float32)
    weights = tensors() | {"rope_freqs.weight": factors}
    path = write(tmp_path / "m.gguf", weights=weights)
    spec = GgufFile(path).spec
    assert spec.rope_scaling.factors == tuple(factors.tolist())
    short = tensors() | {"rope_freqs.weight": factors[:3]}
    assert "rope_freqs" in problem(write(tmp_path / "s.gguf", weights=short))


def test_yarn_and_linear(tmp_path: Path) -> None:
    scaling = GgufFile(
        write(tmp_path / "l.gguf", rope__scaling__type="linear", rope__scaling__factor=4.0)
    ).spec.rope_scaling
    assert (scaling.kind, scaling.factor) == ("linear", 4.0)
    scaling = GgufFile(
        write(
            tmp_path / "y.gguf",
            rope__scaling__type="yarn",
            rope__scaling__factor=4.0,
            rope__scaling__original_context_length=128,
        )
    ).spec.rope_scaling
    assert (scaling.kind, scaling.factor, scaling.original_context) == ("yarn", 4.0, 128)
    assert scaling.attention_factor == pytest.approx(1.1386, abs=1e-4)
    assert "longrope" in problem(write(tmp_path / "x.gguf", rope__scaling__type="longrope"))


@pytest.mark.parametrize(
    ("keys", "kind", "factor"),
    [
        ({"type": "none", "factor": 4.0}, "none", 1.0),
        ({"type": "linear", "factor": 0.0}, "none", 1.0),
        ({"factor": 4.0}, "linear", 4.0),
        ({"type": "yarn", "factor": 4.0}, "yarn", 4.0),
    ],
)
def test_rope_scaling_as_llama_cpp_reads_it(
    tmp_path: Path, keys: dict[str, Any], kind: str, factor: float
) -> None:
    spelled = {f"rope__scaling__{key}": value for key, value in keys.items()}
    scaling = GgufFile(write(tmp_path / "m.gguf", **spelled)).spec.rope_scaling
    assert (scaling.kind, scaling.factor) == (kind, factor)
    assert kind != "yarn" or scaling.original_context == 256, "the context that the file has"


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    """Few keys are read, and fetching again would not help."""
    path = write(tmp_path / "m.gguf", note="caf? au lait")
    data = path.read_bytes().replace(b"caf?", b"caf\xe9").replace("ü".encode(), b"\xfc\xfc")
    path.write_bytes(data.replace(b"llama.note", b"genera.txt"))
    file = GgufFile(path)
    assert file.metadata["genera.txt"] == "caf� au lait"
    assert file.metadata["tokenizer.ggml.tokens"][2] == "��"
    assert file.spec.num_layers == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"attention__key_length": 15}, "heads of 15 dimensions"),
        ({"expert_count": 8}, "expert_count = 8 is not supported"),
        ({"attention__key_length": 16, "attention__value_length": 8}, "value_length = 8"),
        ({"rope__dimension_count": 8}, "rotate whole"),
        ({"attention__clamp_kqv": 8.0}, "attention.clamp_kqv = 8.0 is an unknown setting"),
        ({"logit_scale": 2.0}, "logit_scale = 2.0 is not supported"),
    ],
)
def test_settings_that_change_the_answer(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    assert words in problem(write(tmp_path / "m.gguf", **keys))


def test_unknown_architecture(tmp_path: Path) -> None:
    text = problem(write(tmp_path / "m.gguf", arch="mamba"))
    assert "'mamba' is not supported; known are llama, qwen2, qwen3, smollm3, gemma3" in text


def test_unsupported_type(tmp_path: Path) -> None:
    name = "blk.0.ffn_up.weight"
    raw = np.zeros((INNER, HIDDEN // 32 * 18), np.uint8)
    path = write(tmp_path / "m.gguf", weights=tensors() | {name: raw}, kinds={name: "IQ4_NL"})
    text = problem(path)
    assert f"{name!r} is stored as IQ4_NL" in text and "Q4_K" in text


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "layer"])
def test_tensors_are_compared_with_the_spec(tmp_path: Path, change: str) -> None:
    weights: dict[str, Any] = tensors()
    if change == "missing":
        del weights["blk.0.ffn_up.weight"]
    elif change == "extra":
        weights["blk.0.attn_sinks.weight"] = np.zeros(4, np.float32)
    elif change == "shape":
        weights["blk.0.ffn_up.weight"] = np.zeros((INNER, HIDDEN + 1), np.float32)
    else:
        weights["blk.1.ffn_up.weight"] = np.zeros((INNER, HIDDEN), np.float32)
    text = problem(write(tmp_path / "m.gguf", weights=weights))
    assert {
        "missing": "'layers.0.up' of this llama model is missing",
        "extra": "'blk.0.attn_sinks.weight' has no place",
        "shape": "shape [64, 33], but the configuration asks for [64, 32]",
        "layer": "'blk.1.ffn_up.weight' has no place",
    }[change] in text


def test_header(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    good = write(path).read_bytes()
    path.write_bytes(b"GGML" + good[4:])
    assert "not a GGUF file" in problem(path)
    path.write_bytes(good[:20])
    assert "cut short after 20 bytes" in problem(path)
    path.write_bytes(b"")
    assert "not a GGUF file" in problem(path)
    path.write_bytes(good[:4] + (1).to_bytes(4, "little") + good[8:])
    assert "version 1 is not supported" in problem(path)
    assert "big-endian" in problem(write(path, endian=gguf.GGUFEndian.BIG))


def test_truncated_anywhere(tmp_path: Path) -> None:
    good = write(tmp_path / "m.gguf").read_bytes()
    for length in range(24, len(good) - 32, 97):
        path = tmp_path / "cut.gguf"
        path.write_bytes(good[:length])
        assert "cut short or damaged" in problem(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(4, 1800), value=st.binary(min_size=1, max_size=8))
def test_damaged_anywhere(tmp_path: Path, sound: bytes, at: int, value: bytes) -> None:
    """Any bytes overwritten: the file opens, or is refused in one line, and nothing else."""
    path = tmp_path / "m.gguf"
    path.unlink(missing_ok=True)
    path.write_bytes(sound[:at] + value + sound[at + len(value) :])
    try:
        file = GgufFile(path)
        check_weights(file.spec, file.entries, file.strangers, path)
        for name in expected_weights(file.spec):
            assert GgufWeights(file)[name].tensors[0].numel()
    except ModelError as error:
        assert "\n" not in str(error)
