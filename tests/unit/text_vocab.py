"""Small vocabularies for the tests of the text room: real formats, no files from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pellucid.text.bytelevel import BYTE_OF
from pellucid.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level_metadata(**changes: Any) -> dict[str, Any]:
    """Byte-level BPE: three control tokens, one user-defined, the bytes, a few merges."""
    merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "Ġ Ġ", "Ã ©", "ð Ł", "ðŁ ĺ"]
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>"]
    tokens = [*names, *BYTE_OF, *(rule.replace(" ", "") for rule in merges)]
    values = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "token_type": [CONTROL] * 3 + [USER_DEFINED] + [NORMAL] * (len(tokens) - 4),
        "merges": merges,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "padding_token_id": 2,
        **changes,
    }
    metadata = {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    return metadata | {"tokenizer.chat_template": TEMPLATE}


def spm_metadata(**changes: Any) -> dict[str, Any]:
    """SentencePiece BPE: scores fall with the id; bytes stand for all other characters."""
    pieces = [
        "▁",
        *"abcdehlow",
        "▁▁",
        "ll",
        "he",
        "hell",
        "hello",
        "▁hello",
        "ab",
        "bc",
        "aba",
        "cab",
    ]
    pieces += ["wo", "▁wo", "aa", "aaa"]
    named = ["<unk>", "<s>", "</s>", "\n\n", "\n\n\n"]
    tokens = [*named, *(f"<0x{value:02X}>" for value in range(256)), *pieces]
    kinds = [UNKNOWN, CONTROL, CONTROL, USER_DEFINED, USER_DEFINED]
    values = {
        "model": "llama",
        "tokens": tokens,
        "token_type": [*kinds, *[BYTE] * 256, *[NORMAL] * len(pieces)],
        "scores": [*[0.0] * 261, *(-float(place) for place in range(len(pieces)))],
        "bos_token_id": 1,
        "eos_token_id": 2,
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()}


def byte_level(**changes: Any) -> Tokenizer:
    return Tokenizer.from_gguf(byte_level_metadata(**changes))


def spm(**changes: Any) -> Tokenizer:
    return Tokenizer.from_gguf(spm_metadata(**changes))


def save_folder(folder: Path, tokenizer_json: dict[str, Any], **files: Any) -> Path:
    """A folder in the Hub's layout; `files` are more JSON files by name."""
    folder.mkdir(exist_ok=True)
    for name, value in {"tokenizer": tokenizer_json, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(value), "utf-8")
    return folder


def tokenizer_json(
    metadata: dict[str, Any], *, decoder: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """What `byte_level_metadata` says, as a tokenizer.json."""
    values = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    byte_step = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {
            "id": token,
            "content": values["tokens"][token],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == CONTROL,
        }
        for token, kind in enumerate(values["token_type"])
        if kind != NORMAL
    ]
    return {
        "version": "1.0",
        "truncation": {
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
            "direction": "Right",
        },
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", **byte_step},
            ],
        },
        "post_processor": None,
        "decoder": decoder or {"type": "ByteLevel", **byte_step},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: token for token, text in enumerate(values["tokens"])},
            "merges": [rule.split(" ") for rule in values["merges"]],
        },
        **changes,
    }
