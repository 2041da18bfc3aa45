"""Damaged models: a sound folder and a sound GGUF file, and ways to change one file of them.

Every change follows from a number, so that a failure can be made again by its number alone.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from text_vocab import TEMPLATE, byte_level_metadata, tokenizer_json

from pellucid.config import EngineConfig
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.model.rope import rope_tables
from pellucid.model.spec import expected_weights
from pellucid.text.chat import encode_chat
from pellucid.text.detokenize import detokenizer

VOCABULARY = byte_level_metadata()
TOKENS = VOCABULARY["tokenizer.ggml.tokens"]
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": len(TOKENS),
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 1e4,
    "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
    "sliding_window": 16,
    "use_sliding_window": False,
    "layer_types": ["full_attention"],
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TOKENIZER_CONFIG: dict[str, Any] = {
    "bos_token": {"content": "<|im_start|>", "lstrip": False},
    "eos_token": "<|im_end|>",
    "additional_special_tokens": ["<extra>"],
    "added_tokens_decoder": {"3": {"content": "<tool>", "special": True, "normalized": False}},
    "chat_template": [{"name": "default", "template": TEMPLATE}],
}
GENERATION = {"do_sample": True, "temperature": 0.7, "top_k": 20, "eos_token_id": [2, 0]}
FILES = (
    "model.gguf",
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)


CPU = torch.device("cpu")


def write_sound(folder: Path) -> None:
    """The folder, and beside it the GGUF file."""
    folder.mkdir()
    for name, value in {
        "config": CONFIG,
        "tokenizer": tokenizer_json(VOCABULARY),
        "tokenizer_config": TOKENIZER_CONFIG,
        "generation_config": GENERATION,
        "special_tokens_map": {"pad_token": "<tool>"},
        "added_tokens": {"<tool>": 3},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(value), "utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    weights = {
        "model.embed_tokens.weight": torch.zeros(len(TOKENS), 32),
        "model.norm.weight": torch.ones(32),
    }
    shapes = {
        "input_layernorm.weight": (32,),
        "post_attention_layernorm.weight": (32,),
        "self_attn.q_proj.weight": (32, 32),
        "self_attn.q_proj.bias": (32,),
        "self_attn.k_proj.weight": (16, 32),
        "self_attn.k_proj.bias": (16,),
        "self_attn.v_proj.weight": (16, 32),
        "self_attn.v_proj.bias": (16,),
        "self_attn.o_proj.weight": (32, 32),
        "mlp.gate_proj.weight": (32, 32),
        "mlp.up_proj.weight": (32, 32),
        "mlp.down_proj.weight": (32, 32),
    }
    weights |= {f"model.layers.0.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "part.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    write_gguf(folder / "model.gguf")


def write_gguf(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(2.0)
    writer.add_float32("general.sampling.temp", 0.5)
    for key, value in VOCABULARY.items():
        name = key.removeprefix("tokenizer.ggml.")
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)

    shapes = {
        "token_embd.weight": (len(TOKENS), 32),
        "output_norm.weight": (32,),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_k.weight": (16, 32),
        "blk.0.attn_v.weight": (16, 32),
        "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_norm.weight": (32,),
        "blk.0.ffn_gate.weight": (32, 32),
        "blk.0.ffn_up.weight": (32, 32),
        "blk.0.ffn_down.weight": (32, 32),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def mutant(sound: bytes, name: str, number: int) -> bytes:
    """`sound`, the content of the file `name`, changed in the way that has this number."""
    rng = random.Random(f"{name} {number}")
    if name.endswith(".json") and rng.random() < 0.8:
        return json.dumps(changed(json.loads(sound), rng), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    if name == "model.safetensors" and rng.random() < 0.7:
        size = int.from_bytes(sound[:8], "little")
        header = json.dumps(changed(json.loads(sound[8 : 8 + size]), rng)).encode()
        return len(header).to_bytes(8, "little") + header + sound[8 + size :]
    # Most of a file is weights, about which there is nothing to say: its head is.
    reach = len(sound) if rng.random() < 0.3 or len(sound) < 4000 else 8000
    return rng.choice(BYTE_CHANGES)(sound, rng.randrange(min(reach, len(sound))), rng)


def changed(value: Any, rng: random.Random) -> Any:
    """A JSON value with one to three of its parts changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = changed_once(value, rng)
    return value


def changed_once(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.random():
            case x if x < 0.1:
                return {k: v for k, v in value.items() if k != key}
            case x if x < 0.15:
                return {**value, "odd": value[key]}
            case x if x < 0.2:
                return {(rng.choice(ODD_TEXTS) if k == key else k): v for k, v in value.items()}
        return {**value, key: changed_once(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:place] + value[place + 1 :]
        return [*value[:place], changed_once(value[place], rng), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.4:
        return value + rng.choice((-1, 1, 1 << 31, -(1 << 31), 1 << 63))
    return rng.choice(ODD_VALUES)


ODD_TEXTS = ["", "x", "\ud800", "é" * 300, "\0", "{{", "0x", "-1", "../x", "a\nb"]
ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    7,
    1 << 31,
    1 << 64,
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    {"a": {"b": []}},
    *ODD_TEXTS,
]


def overwrite(data: bytes, at: int, rng: random.Random) -> bytes:
    value = rng.choice((b"\0", b"\xff", b"\x80", b"\xff" * 8, b"\0" * 8, rng.randbytes(4)))
    return data[:at] + value + data[at + len(value) :]


def number(data: bytes, at: int, rng: random.Random) -> bytes:
    value = rng.choice((0, 1, 255, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1))
    return data[:at] + struct.pack("<Q", value) + data[at + 8 :]


def cut(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at]


def drop(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + data[at + rng.choice((1, 2, 8, 100)) :]


def repeat(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + data[max(0, at - rng.choice((1, 8, 64))) :]


def nest(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + rng.choice((b"[", b'{"a":', b"{{", b"{%")) * 3000 + data[at:]


BYTE_CHANGES: list[Callable[[bytes, int, random.Random], bytes]] = [
    overwrite,
    overwrite,
    number,
    number,
    cut,
    drop,
    repeat,
    nest,
]


def exercise(path: Path) -> Checkpoint:
    """What a server does with a model before the first step. Raises `InputError`."""
    checkpoint = open_checkpoint(EngineConfig(model=str(path)))
    spec = checkpoint.spec
    weights = checkpoint.weights()
    for name in expected_weights(spec):
        weights[name].tensors[0].numel()
    rope_tables(spec, spec.context_length, CPU)
    tokenizer = checkpoint.tokenizer
    if tokenizer is None:
        return checkpoint
    for text in ("hello world 42", "a<|im_end|><tool>é😀\n\n  x", "", "<s>\0\ufffd▁"):
        ids = tokenizer.encode(text)
        tokenizer.decode(ids)
        stream = detokenizer(tokenizer, skip_special_tokens=False, continues=True)
        stream.push([*ids, *range(0, tokenizer.vocab_size, 7), spec.vocab_size + 5])
        stream.finish()
    if tokenizer.chat_template is not None:
        for content in ("hello", "a<|im_end|>b"):
            encode_chat(tokenizer, [{"role": "user", "content": content}])
    return checkpoint
