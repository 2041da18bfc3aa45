"""What a model's authors recommend reaches the requests that leave it out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pellucid import LLM, InputError, SamplingParams
from pellucid.config import EngineConfig
from pellucid.errors import ModelError
from pellucid.model.checkpoint import open_checkpoint
from pellucid.model.sampling_defaults import from_generation_config, from_gguf

PATH = Path("generation_config.json")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, {}),
        ({"eos_token_id": 2, "max_new_tokens": 2048}, {}),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
            {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
        ),
        ({"temperature": 0.7, "top_k": None, "min_p": 0.05}, {"temperature": 0.7, "min_p": 0.05}),
        ({"top_k": 40.0, "repetition_penalty": 1.05}, {"top_k": 40, "repetition_penalty": 1.05}),
        ({"do_sample": False}, {"temperature": 0.0}),
        (
            {"do_sample": False, "temperature": 0.9, "repetition_penalty": 1.1},
            {"temperature": 0.0, "repetition_penalty": 1.1},
        ),
    ],
)
def test_generation_config(stored: dict[str, Any], expected: dict[str, Any]) -> None:
    found: dict[str, Any] = from_generation_config(stored, PATH)
    assert found == expected
    SamplingParams(**found)


@pytest.mark.parametrize(
    "stored", [{"temperature": "hot"}, {"top_p": 1.5}, {"top_k": 2.5}, {"min_p": [0.1]}]
)
def test_a_recommendation_out_of_range_names_file_and_key(stored: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=rf"generation_config\.json: {next(iter(stored))} "):
        from_generation_config(stored, PATH)


def test_gguf_keys() -> None:
    metadata = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 30,
        "general.sampling.penalty_repeat": 1.1,
        "general.sampling.mirostat": 0,
    }
    expected = {"temperature": 0.5, "top_k": 30, "repetition_penalty": 1.1}
    assert from_gguf(metadata, Path("m.gguf")) == expected


def test_shipped_aliases_have_their_cards(smollm2_path: Path) -> None:
    found = open_checkpoint(EngineConfig(model="smollm2")).sampling_defaults
    assert found == {"temperature": 0.2, "top_p": 0.9}
    assert open_checkpoint(EngineConfig(model=str(smollm2_path))).sampling_defaults == {}


@pytest.fixture
def greedy_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text((tiny_folder / "config.json").read_text())
    (tmp_path / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    return tmp_path


def test_requests_without_parameters_take_the_defaults(greedy_folder: Path) -> None:
    llm = LLM(str(greedy_folder), load_format="dummy", dtype="float32", memory=0.1)
    prompt = [5, 6, 7]
    greedy = llm.generate([prompt], SamplingParams(temperature=0, max_tokens=8))[0].token_ids
    assert llm.generate([prompt], max_tokens=8)[0].token_ids == greedy
    assert [o.token_ids for o in llm.generate([prompt, prompt], max_tokens=8)] == [greedy] * 2
    streamed = llm.stream(prompt, max_tokens=8)
    assert [token for piece in streamed for token in piece.token_ids] == greedy
    sampled = llm.generate([prompt], SamplingParams(max_tokens=8, n=4, seed=1))
    assert {tuple(o.token_ids) for o in sampled} != {tuple(greedy)}, "params hold as they are"
    given = llm.generate([prompt], max_tokens=8, temperature=1.0, n=4, seed=1)
    assert [o.token_ids for o in given] == [o.token_ids for o in sampled], "a field given wins"
    with pytest.raises(InputError, match="not both"):
        llm.generate([prompt], SamplingParams(), max_tokens=8)


OPEN = """
import sys
from pellucid.config import EngineConfig
from pellucid.model.checkpoint import open_checkpoint
for model, load_format in zip(sys.argv[1::2], sys.argv[2::2]):
    checkpoint = open_checkpoint(EngineConfig(model=model, load_format=load_format))
    tokenizer = checkpoint.tokenizer
    print(checkpoint.name, checkpoint.spec.family, checkpoint.sampling_defaults, bool(tokenizer))
    if tokenizer:
        print(tokenizer.decode(tokenizer.encode("as it was")))
assert "torch" not in sys.modules, "torch was imported"
"""


def test_a_model_is_opened_without_torch(
    tiny_folder: Path, smollm2_path: Path, stored_folder: Path
) -> None:
    """The server's HTTP process needs name, spec, tokenizer and defaults; torch costs it seconds
    and hundreds of megabytes."""
    models = [str(smollm2_path), "auto", str(tiny_folder), "dummy", str(stored_folder), "auto"]
    done = subprocess.run(
        [sys.executable, "-c", OPEN, *models], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "llama {} True\nas it was\n" in done.stdout


@pytest.fixture
def stored_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny Llama with its weights in a safetensors file."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((tiny_folder / "config.json").read_text())
    folder = tmp_path / "stored"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    hidden, inner, vocab = 32, 64, config["vocab_size"]
    shapes = {"model.embed_tokens": (vocab, hidden), "model.norm": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (16, hidden),
            "self_attn.v_proj": (16, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }.items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    weights = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return folder
