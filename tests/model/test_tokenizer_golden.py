"""Token ids of the real models against llama.cpp's, for every string of the golden files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import InputError
from pellucid.model.gguf import GgufFile
from pellucid.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Tokenizer:
    return Tokenizer.from_gguf(GgufFile(smollm2_path).metadata)


@pytest.fixture(scope="module")
def gemma3(gemma3_path: Path) -> Tokenizer:
    return Tokenizer.from_gguf(GgufFile(gemma3_path).metadata)


def read_golden(name: str) -> list[list[Any]]:
    with gzip.open(GOLDEN / f"tokenizer_{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        header, *entries = map(json.loads, file)
    assert len(entries) == header["strings"] >= 2000
    return entries


@pytest.mark.parametrize(("fixture", "name"), [("smollm2", "smollm2"), ("gemma3", "gemma3-270m")])
def test_ids_are_llama_cpps(fixture: str, name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(fixture)
    num_parsed = num_refused = 0
    for text, plain, parsed in read_golden(name):
        if plain is None:
            num_refused += 1
            with pytest.raises(InputError, match="lone surrogate"):
                tokenizer.encode(text)
            continue
        ids = tokenizer.encode(text, add_special_tokens=False, parse_special=False)
        assert ids == plain, repr(text)
        assert tokenizer.encode(text, parse_special=True) == parsed, repr(text)
        # BOS is added with or without parsing; the golden file has it with.
        framed = tokenizer.encode(text, parse_special=False)
        assert framed == [*tokenizer.codec.prefix, *plain, *tokenizer.codec.suffix], repr(text)
        num_parsed += parsed != framed
    # The file must hold what it is for.
    assert num_parsed > 100
    assert num_refused >= 6


def test_smollm2_gives_the_text_back(smollm2: Tokenizer) -> None:
    # Its vocabulary has no token for these bytes; they are left out of a text, as in llama.cpp.
    lost = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)}
    for text, plain, _ in read_golden("smollm2"):
        if plain is not None:
            want = bytes(byte for byte in text.encode() if byte not in lost)
            assert smollm2.decode(plain) == want.decode(errors="replace"), repr(text)


def test_gemma3_gives_the_text_back(gemma3: Tokenizer) -> None:
    # Space and ▁ are one token; of the two, the text comes back with the space.
    for text, plain, _ in read_golden("gemma3-270m"):
        if plain is not None:
            want = text.replace("▁", " ")
            assert gemma3.decode(plain, skip_special_tokens=False) == want, repr(text)


def test_smollm2_special_tokens(smollm2: Tokenizer) -> None:
    assert smollm2.vocab_size == 49152
    assert (smollm2.bos_token_id, smollm2.pad_token_id) == (1, 2)
    assert smollm2.eos_token_ids == (2, 0)
    assert smollm2.is_special(1)
    assert not smollm2.is_special(81)
    assert smollm2.token_text(2) == "<|im_end|>"
    assert smollm2.decode([1, 81, 2]) == "a"
    assert smollm2.chat_template is not None


def test_gemma3_special_tokens(gemma3: Tokenizer) -> None:
    assert gemma3.vocab_size == 262144
    assert (gemma3.bos_token_id, gemma3.pad_token_id) == (2, 0)
    assert gemma3.eos_token_ids == (1, 106)
    assert gemma3.encode("") == [2]
    assert gemma3.chat_template is None
    # An HTML tag to Gemma, although llama.cpp takes it for a control token when encoding.
    assert gemma3.decode([212]) == "</s>"
