"""A very small Llama whose matrices are 4- and 8-bit blocks, as those of the default model."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from pellucid.text.bytelevel import BYTE_OF

TOKENS = ["<unk>", "<s>", "</s>", *BYTE_OF, "ab"]
LAYERS, HEADS, KV_HEADS, HEAD_DIM, INNER = 2, 4, 2, 16, 96
WIDE = HEADS * HEAD_DIM
MATRICES = {
    "attn_q": (WIDE, WIDE),
    "attn_k": (KV_HEADS * HEAD_DIM, WIDE),
    "attn_v": (KV_HEADS * HEAD_DIM, WIDE),
    "attn_output": (WIDE, WIDE),
    "ffn_gate": (INNER, WIDE),
    "ffn_up": (INNER, WIDE),
    "ffn_down": (WIDE, INNER),
}


def write_tiny_model(path: Path) -> None:
    """A GGUF file with Q4_1 matrices and Q8_0 embedding and head.

    The random weights are large enough that the scores of attention differ by several units, so a
    token depends on which keys are read and at what positions.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokens(writer)
    draw = np.random.default_rng(0)
    for name in ("token_embd", "output"):  # a head of its own: a tied one repeats the last token
        add_matrix(writer, name, draw.normal(size=(len(TOKENS), WIDE)), "Q8_0")
    writer.add_tensor("output_norm.weight", np.ones(WIDE, np.float32))
    for layer in range(LAYERS):
        for name, shape in MATRICES.items():
            numbers = draw.normal(scale=2 / shape[1] ** 0.5, size=shape)
            add_matrix(writer, f"blk.{layer}.{name}", numbers, "Q4_1")
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDE, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokens(writer: gguf.GGUFWriter) -> None:
    control, normal = 3, 1
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([control] * 3 + [normal] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def add_matrix(writer: gguf.GGUFWriter, name: str, numbers: np.ndarray, kind: str) -> None:
    blocks = gguf.GGMLQuantizationType[kind]
    data = gguf.quants.quantize(numbers.astype(np.float32), blocks)
    writer.add_tensor(f"{name}.weight", data, raw_dtype=blocks)
