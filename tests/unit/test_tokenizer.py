"""Tokenizers from GGUF metadata: encoding, special tokens, refusals."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from text_vocab import byte_level, byte_level_metadata, spm, spm_metadata

from pellucid.errors import InputError, ModelError
from pellucid.text.bytelevel import PRETOKENIZERS, ByteLevelMerger
from pellucid.text.specials import SpecialTokens
from pellucid.text.spm import SPACE, SpmMerger
from pellucid.text.tokenizer import Tokenizer

BYTES = byte_level()
SPM = spm()
SPM_BARE = spm(add_space_prefix=False)
NAMED = range(5)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text("abchello w\n\n", max_size=40),
    st.lists(st.sampled_from(["<s>", "</s>", "<|im_end|>", "<tool>", " ", "a", "é", "😀"])).map(
        "".join
    ),
)


def names(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    return [tokenizer.token_text(token) for token in ids]


@given(TEXTS)
def test_decode_gives_the_text_back(text: str) -> None:
    for tokenizer in (BYTES, SPM, SPM_BARE):
        for parse_special in (False, True):
            ids = tokenizer.encode(text, add_special_tokens=False, parse_special=parse_special)
            if tokenizer is SPM and any(token in NAMED for token in ids):
                continue  # a space goes before the text after a named token; it does not come off
            want = text if tokenizer is BYTES else text.replace(SPACE, " ")
            assert tokenizer.decode(ids, skip_special_tokens=False) == want


def test_merges_in_order() -> None:
    ids = BYTES.encode("hello world 42")
    assert names(BYTES, ids) == ["hello", " wor", "l", "d", " ", "4", "2"]


def test_special_tokens_as_text_and_as_tokens() -> None:
    text = "a<|im_end|><tool>"
    as_text = BYTES.encode(text, parse_special=False)
    assert BYTES.decode(as_text) == text
    assert len(as_text) == len("a<|im_end|>") + 1, "a user-defined token is matched always"
    assert names(BYTES, BYTES.encode(text)) == ["a", "<|im_end|>", "<tool>"]


def test_fill_in_the_middle_marks_are_tokens() -> None:
    """Converters type them as control tokens, or as nothing special: they count by their names."""
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    metadata = byte_level_metadata()
    tokens, types = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type"))
    for kind in (1, 3):
        changed = {"tokens": [*tokens, *marks], "token_type": [*types, *[kind] * 3]}
        tokenizer = byte_level(**changed)
        ids = tokenizer.encode("<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>")
        assert names(tokenizer, ids) == [marks[0], "a", marks[1], "b", marks[2]]


def test_special_tokens_are_left_out() -> None:
    ids = BYTES.encode("<|im_start|>é<tool><|im_end|>", parse_special=True)
    assert BYTES.decode(ids) == "é<tool>"
    assert BYTES.decode(ids, skip_special_tokens=False) == "<|im_start|>é<tool><|im_end|>"
    assert [BYTES.is_special(token) for token in (0, 1, 2, 3, 4)] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, []),
        ({"add_bos_token": True}, [1]),
        ({"add_eos_token": True}, [2]),
        ({"add_bos_token": True, "add_eos_token": True}, [1, 2]),
        ({"pre": "llama-bpe"}, [1]),
        ({"pre": "llama-bpe", "add_bos_token": False}, []),
    ],
)
def test_frame(changes: dict[str, Any], want: list[int]) -> None:
    tokenizer = byte_level(**changes)
    assert tokenizer.encode("") == want
    assert tokenizer.encode("", add_special_tokens=False) == []


def test_spm_frame() -> None:
    assert SPM.encode("") == [1]
    assert names(SPM, SPM.encode("hello")) == ["<s>", " hello"]
    assert names(SPM_BARE, SPM_BARE.encode("hello")) == ["<s>", "hello"]


def test_spm_space_after_special_tokens() -> None:
    ids = SPM.encode("hello</s>hello", parse_special=True, add_special_tokens=False)
    assert names(SPM, ids) == [" hello", "</s>", " hello"]


def test_spm_longest_user_defined_first() -> None:
    ids = SPM_BARE.encode("a\n\n\n\n\nb", add_special_tokens=False)
    assert names(SPM_BARE, ids) == ["a", "\n\n\n", "\n\n", "b"]


def test_spm_bytes_for_the_unknown() -> None:
    ids = SPM_BARE.encode("é", add_special_tokens=False)
    assert [SPM_BARE.token_bytes(token) for token in ids] == [b"\xc3", b"\xa9"]
    assert names(SPM_BARE, ids) == ["�", "�"]


def test_ids_out_of_range_have_no_text() -> None:
    assert BYTES.token_bytes(BYTES.vocab_size) == b""
    assert BYTES.decode([-1, 10**9]) == ""


def test_token_ids() -> None:
    assert (BYTES.bos_token_id, BYTES.eos_token_ids, BYTES.pad_token_id) == (1, (2, 0), 2)
    assert SPM.eos_token_ids == (2,)
    assert byte_level(bos_token_id=10**6).bos_token_id is None


@pytest.mark.parametrize("text", ["\ud800", "ok \udfff", "\udc80x"])
def test_lone_surrogates_are_refused(text: str) -> None:
    for tokenizer in (BYTES, SPM):
        with pytest.raises(InputError, match=r"lone surrogate, '\\ud[89a-f]"):
            tokenizer.encode(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre": "klingon"}, "'klingon' is not known; known are: .*smollm"),
        ({"model": "bert"}, "'bert' is not supported; supported are: gpt2, llama"),
        ({"tokens": None}, "tokens is missing"),
        ({"merges": None}, "merges is missing"),
        ({"merges": ["h e", "zz q"]}, "do not fit the tokens"),
        ({"merges": ["he"]}, "'he', which is no pair"),
        ({"token_type": [1]}, "token_type has 1 entries"),
        ({"tokens": [1, 2]}, "tokens must be a list of str"),
        ({"add_bos_token": "yes"}, "add_bos_token must be of type bool"),
        ({"add_bos_token": True, "bos_token_id": -1}, "bos_token_id is missing"),
    ],
)
def test_bad_byte_level(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        byte_level(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "scores is missing"),
        ({"scores": [0.0]}, "scores has 1 entries"),
        ({"add_space_prefix": 1}, "add_space_prefix must be of type bool"),
    ],
)
def test_bad_spm(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        spm(**changes)


def test_spm_without_byte_tokens() -> None:
    tokens = ["<unk>", "<s>", "</s>", "▁", "a"]
    kinds, scores = [2, 3, 3, 1, 1], [0.0] * 5
    tokenizer = spm(tokens=tokens, token_type=kinds, scores=scores, add_space_prefix=False)
    assert tokenizer.encode("aéa", add_special_tokens=False) == [4, 0, 0, 4]
    with pytest.raises(ModelError, match="neither a token <0x00> nor"):
        SpmMerger(tokens, scores, None)


def naive_spm(tokens: list[str], scores: list[float], text: str) -> list[str]:
    """The definition: merge the best pair, leftmost of equals, until none is left."""
    ids = {piece: token for token, piece in enumerate(tokens)}
    symbols = list(text)
    while True:
        pairs = [
            (-scores[ids[a + b]], place)
            for place, (a, b) in enumerate(pairwise(symbols))
            if a + b in ids
        ]
        if not pairs:
            return symbols
        _, place = min(pairs)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


SPARSE = st.text(f"ab>{SPACE}", min_size=1, max_size=4)
DENSE = st.text("ab", min_size=2, max_size=5)


@given(
    st.one_of(
        st.lists(SPARSE, unique=True, max_size=25),
        st.lists(DENSE, unique=True, min_size=10, max_size=40),
    ),
    st.randoms(use_true_random=False),
    st.one_of(st.text(f"ab>{SPACE}cx", max_size=30), st.text("ab", min_size=10, max_size=30)),
)
@example(["ab", "abab", "cabab"], Random(1), "cabab")
def test_spm_merges_as_defined(pieces: list[str], random: Any, text: str) -> None:
    # Few different scores, so that ties happen; tokens with a space inside, so that words matter.
    tokens = ["<unk>", *dict.fromkeys([*f"abc>{SPACE}", *pieces])]
    scores = [float(random.randrange(4)) for _ in tokens]
    merger = SpmMerger(tokens, scores, 0)
    want = [tokens.index(s) if s in tokens else 0 for s in naive_spm(tokens, scores, text)]
    assert merger.encode(text) == want
    assert merger.encode(text) == want, "and again, from the cache"


def naive_split(names: dict[str, int], text: str) -> list[str | int]:
    parts: list[str | int] = [text]
    for name in sorted(names, key=lambda name: (-len(name.encode()), names[name])):
        for place in range(len(parts) - 1, -1, -1):
            part = parts[place]
            if isinstance(part, str):
                pieces: list[str | int] = []
                for between in part.split(name):
                    pieces += [names[name], between]
                parts[place : place + 1] = pieces[1:]
    return [part for part in parts if part != ""]


@given(
    st.dictionaries(st.text("<ab>é", min_size=1, max_size=6), st.integers(0, 99), max_size=9),
    st.text("<ab>é", max_size=25),
)
def test_special_tokens_longest_first(names: dict[str, int], text: str) -> None:
    names = {name: token for token, name in enumerate(names)}
    assert SpecialTokens(names).split(text) == naive_split(names, text)


def test_longest_is_meant_in_bytes() -> None:
    assert SpecialTokens({"abc": 1, "c😀": 2}).split("abc😀") == ["ab", 2]


CUTS = {
    "default": ["Hello", ",", " world", "!!", " ", "123", "45"],
    "gpt-2": ["Hello", ",", " world", "!!", " 12345"],
    "smollm": ["Hello", ",", " world", "!!", " ", "1", "2", "3", "4", "5"],
    "llama-bpe": ["Hello", ",", " world", "!!", " ", "123", "45"],
    "qwen2": ["Hello", ",", " world", "!!", " ", "1", "2", "3", "4", "5"],
    "qwen35": ["Hello", ",", " world", "!!", " ", "1", "2", "3", "4", "5"],
    "tekken": ["Hello", ",", " world", "!!", " ", "1", "2", "3", "4", "5"],
}


def words(pre: str, text: str) -> list[str]:
    """`text` as it is cut into words."""
    library = ByteLevelMerger(["a"], [], PRETOKENIZERS[pre])._library
    return [text[a:b] for _, (a, b) in library.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("pre", CUTS)
def test_words(pre: str) -> None:
    assert words(pre, "Hello, world!! 12345") == CUTS[pre]


@pytest.mark.parametrize(
    ("pre", "text", "want"),
    [
        ("gpt-2", "a  b\n\n c", ["a", " ", " b", "\n\n", " c"]),
        ("llama-bpe", "a  b\n\n c", ["a", " ", " b", "\n\n", " c"]),
        ("llama-bpe", "(x)\n\ny'LL", ["(x", ")\n\n", "y", "'LL"]),
        ("gpt-2", "y'LL we'll", ["y", "'", "LL", " we", "'ll"]),
        ("smollm", "\n\n  0", ["\n\n  ", "0"]),
        ("qwen2", "नमस्ते", ["नमस", "्त", "े"]),
        ("qwen35", "नमस्ते", ["नमस्ते"]),
        ("tekken", "helloWorld XYZabc", ["hello", "World", " XYZabc"]),
    ],
)
def test_words_differ(pre: str, text: str, want: list[str]) -> None:
    assert words(pre, text) == want


@pytest.mark.parametrize("pre", PRETOKENIZERS)
def test_every_cut_keeps_the_text(pre: str) -> None:
    text = "I'm x=1, 2345 + é\u00a0漢字😀\n\n  y\t\x00'S"
    assert "".join(words(pre, text)) == text


def test_ignore_merges_takes_whole_words() -> None:
    # "or" is reached by a merge, "wor" only as " wor"; as a token it is taken whole.
    metadata = byte_level_metadata()
    tokens = [*metadata["tokenizer.ggml.tokens"], "xyz"]
    kinds = [*metadata["tokenizer.ggml.token_type"], 1]
    assert len(byte_level(tokens=tokens, token_type=kinds).encode("xyz")) == 3
    whole = byte_level(tokens=tokens, token_type=kinds, pre="tekken")
    assert whole.encode("xyz", add_special_tokens=False) == [len(tokens) - 1]


def test_mistyped_control_tokens() -> None:
    # Typed as normal, <|im_end|> is a control token nevertheless.
    metadata = byte_level_metadata()
    kinds = list(metadata["tokenizer.ggml.token_type"])
    kinds[2] = 1
    tokenizer = byte_level(token_type=kinds)
    assert tokenizer.encode("<|im_end|>", parse_special=True) == [2]
    assert tokenizer.decode([2]) == ""


def test_word_borders_come_from_the_vocabulary() -> None:
    plain = SpmMerger(["<unk>", SPACE, "a", f"{SPACE}a"], [0.0] * 4, 0)
    inner = SpmMerger(["<unk>", SPACE, "a", f"a{SPACE}a"], [0.0] * 4, 0)
    assert re.findall(plain._word, f"{SPACE}a{SPACE}{SPACE}b") == [f"{SPACE}a", f"{SPACE}{SPACE}b"]
    assert re.findall(inner._word, f"a{SPACE}ab{SPACE}a") == [f"a{SPACE}ab", f"{SPACE}a"]


def test_spm_metadata_is_what_the_tests_think() -> None:
    assert spm_metadata()["tokenizer.ggml.tokens"][1] == "<s>"
