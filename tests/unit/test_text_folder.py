"""Tokenizers from a folder: the same as from GGUF, with the folder's own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_vocab import byte_level, byte_level_metadata, save_folder, tokenizer_json
from tokenizers import Tokenizer as Library

from pellucid.errors import ModelError
from pellucid.text.detokenize import ByteDetokenizer, WholeDetokenizer, detokenizer
from pellucid.text.tokenizer import Tokenizer

GGUF = byte_level()
SPM_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
WORDPIECE = {"type": "WordPiece", "prefix": "##", "cleanup": True}


def folder(tmp_path: Path, changes: dict[str, Any] | None = None, **files: Any) -> Tokenizer:
    content = tokenizer_json(byte_level_metadata(), **(changes or {}))
    return Tokenizer.from_folder(save_folder(tmp_path / "model", content, **files))


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return folder(tmp_path_factory.mktemp("same"))


@given(
    text=st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from(["<|im_end|>", "<tool>", "<|im_start|>", " hello", " 12", "é", "\n"])
        ).map("".join),
    ),
    parse_special=st.booleans(),
)
def test_the_same_ids_as_from_gguf(same: Tokenizer, text: str, parse_special: bool) -> None:
    ids = same.encode(text, parse_special=parse_special)
    assert ids == GGUF.encode(text, parse_special=parse_special)
    assert same.decode(ids) == GGUF.decode(ids)
    assert same.decode(ids, skip_special_tokens=False) == text


@given(ids=st.lists(st.integers(0, GGUF.vocab_size + 3), max_size=20))
def test_the_same_text_as_from_gguf(same: Tokenizer, ids: list[int]) -> None:
    assert same.vocab_size == GGUF.vocab_size
    assert same.decode(ids) == GGUF.decode(ids)
    assert [same.token_bytes(i) for i in ids] == [GGUF.token_bytes(i) for i in ids]
    assert [same.is_special(i) for i in ids] == [GGUF.is_special(i) for i in ids]


def test_named_tokens(tmp_path: Path) -> None:
    tokenizer = folder(
        tmp_path,
        tokenizer_config={
            "bos_token": {"content": "<|im_start|>", "lstrip": False},
            "pad_token": "<|endoftext|>",
            "chat_template": "old",
        },
        special_tokens_map={"eos_token": "<|im_end|>", "pad_token": "<tool>"},
        generation_config={"eos_token_id": [2, 3], "bos_token_id": 9},
    )
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id) == (1, 3), "the older file's"
    assert tokenizer.eos_token_ids == (2, 3, 0)
    assert tokenizer.chat_template == "old"


def test_ids_only_in_generation_config(tmp_path: Path) -> None:
    tokenizer = folder(tmp_path, generation_config={"eos_token_id": 7, "bos_token_id": 5})
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (5, (7, 0, 2))


def test_template_in_its_own_file(tmp_path: Path) -> None:
    save_folder(tmp_path / "model", {})
    (tmp_path / "model" / "chat_template.jinja").write_text("new", "utf-8")
    tokenizer = folder(tmp_path, tokenizer_config={"chat_template": "old"})
    assert tokenizer.chat_template == "new"


def test_several_templates(tmp_path: Path) -> None:
    several = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    assert folder(tmp_path, tokenizer_config={"chat_template": several}).chat_template == "d"


def bos_template(token: int, name: str) -> dict[str, Any]:
    return {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": name, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]}},
    }


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("flag", [None, False, True])
def test_tokenizer_json_alone_says_what_a_text_begins_with(
    tmp_path: Path, in_file: bool, flag: bool | None
) -> None:
    """As in transformers 5, which passes over add_bos_token where there is a tokenizer.json."""
    config = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    flags = {} if flag is None else {"add_bos_token": flag, "add_eos_token": flag}
    post = bos_template(1, "<|im_start|>") if in_file else None
    tokenizer = folder(tmp_path, {"post_processor": post}, tokenizer_config=config | flags)
    assert tokenizer.encode("") == ([1] if in_file else [])
    assert tokenizer.encode("a", add_special_tokens=False) == GGUF.encode("a")


NEW = GGUF.vocab_size
ENTRY = {"content": "<new>", "special": True, "lstrip": False, "rstrip": True, "normalized": False}


@pytest.mark.parametrize(
    ("files", "special"),
    [
        ({"tokenizer_config": {"added_tokens_decoder": {str(NEW): ENTRY}}}, True),
        ({"tokenizer_config": {"additional_special_tokens": ["<new>"]}}, True),
        ({"tokenizer_config": {"additional_special_tokens": [ENTRY]}}, True),
        ({"tokenizer_config": {"extra_special_tokens": {"image_token": "<new>"}}}, True),
        ({"tokenizer_config": {"image_token": "<new>"}}, True),
        ({"special_tokens_map": {"additional_special_tokens": ["<new>"]}}, True),
        ({"special_tokens_map": {"pad_token": ENTRY}}, True),
        ({"added_tokens": {"<new>": NEW}}, False),
        ({"added_tokens": {"<new>": NEW}, "tokenizer_config": {"pad_token": "<new>"}}, True),
    ],
)
def test_tokens_named_outside_tokenizer_json(
    tmp_path: Path, files: dict[str, Any], special: bool
) -> None:
    tokenizer = folder(tmp_path, **files)
    ids = tokenizer.encode("hello<new>hello")
    assert ids == [*GGUF.encode("hello"), NEW, *GGUF.encode("hello")]
    assert (tokenizer.vocab_size, tokenizer.is_special(NEW)) == (NEW + 1, special)
    assert tokenizer.decode(ids) == ("hellohello" if special else "hello<new>hello")
    as_text = tokenizer.encode("<new>", parse_special=False)
    assert (NEW in as_text) is not special


def test_what_is_declared_there_goes_before(tmp_path: Path) -> None:
    """`<tool>` is an ordinary added token in tokenizer.json, and a special one here."""
    entry = {**ENTRY, "content": "<tool>", "rstrip": False, "single_word": False}
    tokenizer = folder(tmp_path, tokenizer_config={"added_tokens_decoder": {"3": entry}})
    assert tokenizer.vocab_size == GGUF.vocab_size
    assert tokenizer.decode([3, *GGUF.encode("hello")]) == "hello"


@pytest.mark.parametrize("decoder", [[1], {"x": ENTRY}, {"1": "<new>"}, {"1": {"content": 3}}])
def test_added_tokens_that_make_no_sense(tmp_path: Path, decoder: Any) -> None:
    with pytest.raises(ModelError, match="added tokens make no sense"):
        folder(tmp_path, tokenizer_config={"added_tokens_decoder": decoder})


def test_long_texts_are_not_truncated(same: Tokenizer) -> None:
    assert len(same.encode("x" * 50)) == 50


@pytest.mark.parametrize(
    ("decoder", "kind", "leading_space"),
    [
        (None, ByteDetokenizer, False),
        (SPM_DECODER, ByteDetokenizer, True),
        ({**SPM_DECODER, "decoders": SPM_DECODER["decoders"][:3]}, ByteDetokenizer, False),
        (METASPACE, ByteDetokenizer, True),
        ({**METASPACE, "prepend_scheme": "never"}, ByteDetokenizer, False),
        (WORDPIECE, WholeDetokenizer, False),
        ({"type": "Sequence", "decoders": [WORDPIECE]}, WholeDetokenizer, False),
    ],
)
def test_choice_of_detokenizer(
    tmp_path: Path, decoder: dict[str, Any] | None, kind: type, leading_space: bool
) -> None:
    tokenizer = folder(tmp_path, {"decoder": decoder})
    assert isinstance(detokenizer(tokenizer), kind)
    assert tokenizer.codec.leading_space is leading_space


def sentencepiece_json(decoder: dict[str, Any]) -> dict[str, Any]:
    pieces = ["▁", "a", "b", "▁a", "ab", "▁ab", *(f"<0x{value:02X}>" for value in range(256))]
    content: dict[str, Any] = tokenizer_json(byte_level_metadata(), decoder=decoder)
    content["model"] |= {
        "byte_fallback": True,
        "vocab": {text: token for token, text in enumerate(pieces)},
        "merges": [["▁", "a"], ["a", "b"], ["▁a", "b"]],
    }
    return content | {"added_tokens": [], "pre_tokenizer": METASPACE}


@pytest.mark.parametrize("decoder", [SPM_DECODER, METASPACE])
@given(text=st.text("ab é😀", max_size=20))
def test_sentencepiece(
    decoder: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    name = f"spm-{decoder['type']}"
    path = tmp_path_factory.getbasetemp() / name
    if not path.exists():
        save_folder(path, sentencepiece_json(decoder))
    tokenizer = Tokenizer.from_folder(path)
    library = Library.from_file(str(path / "tokenizer.json"))
    library.no_truncation()
    ids = tokenizer.encode(text)
    assert ids == library.encode(text).ids
    stream = detokenizer(tokenizer)
    assert "".join([*(stream.push([i]) for i in ids), stream.finish()]) == tokenizer.decode(ids)
    if decoder is SPM_DECODER:  # the other one leaves bytes as <0xC3>
        assert tokenizer.decode(ids) == library.decode(ids)


WORDS = ["[UNK]", "do", "n", "'", "t", "##t", ".", "a", "##b", "I", "'ve", "[EOS]"]


def wordpiece(tmp_path: Path) -> Tokenizer:
    content = tokenizer_json(byte_level_metadata(), decoder=WORDPIECE)
    content["model"] |= {"vocab": {text: token for token, text in enumerate(WORDS)}, "merges": []}
    added = dict(content["added_tokens"][0], id=11, content="[EOS]")
    return Tokenizer.from_folder(
        save_folder(tmp_path / "model", content | {"added_tokens": [added]})
    )


@given(ids=st.lists(st.integers(0, len(WORDS) - 1), max_size=12), skip=st.booleans())
def test_other_decoders_join_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], skip: bool
) -> None:
    tokenizer = wordpiece(tmp_path_factory.getbasetemp())
    stream = detokenizer(tokenizer, skip_special_tokens=skip)
    pieces = [stream.push([token]) for token in ids]
    whole = tokenizer.decode(ids, skip_special_tokens=skip)
    assert "".join(pieces) + stream.finish() == whole


def test_other_decoders_stream(tmp_path: Path) -> None:
    stream = detokenizer(wordpiece(tmp_path))
    assert [stream.push([token]) for token in (1, 7, 8, 6)] == ["", "do", " a", "b"]
    assert stream.finish() == "."


def test_no_tokenizer_json(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no tokenizer\.json; save it"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", r"tokenizer\.json: .*fetch the file again"),
        ("tokenizer.json", '{"model": 1}', r"tokenizer\.json: .*fetch the file again"),
        ("tokenizer_config.json", "{,}", r"tokenizer_config\.json: not valid JSON"),
        ("generation_config.json", "[]", r"generation_config\.json: holds no JSON object"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = save_folder(tmp_path / "model", tokenizer_json(byte_level_metadata()))
    (path / name).write_text(content, "utf-8")
    with pytest.raises(ModelError, match=message):
        Tokenizer.from_folder(path)


def test_what_has_a_role_is_special(tmp_path: Path) -> None:
    """Whatever its own entry says; and a list in tokenizer_config.json goes before an older one."""
    entry = {**ENTRY, "special": False}
    tokenizer = folder(
        tmp_path,
        tokenizer_config={"added_tokens_decoder": {str(NEW): entry}, "pad_token": "<new>"},
    )
    assert tokenizer.is_special(NEW)
    tokenizer = folder(
        tmp_path,
        tokenizer_config={"additional_special_tokens": ["<one>"]},
        special_tokens_map={"additional_special_tokens": ["<two>"]},
    )
    assert tokenizer.encode("<one>") == [NEW] and tokenizer.vocab_size == NEW + 1


def test_a_panic_of_the_library_is_a_damaged_file(tmp_path: Path) -> None:
    content = tokenizer_json(byte_level_metadata())
    content["model"] |= {"continuing_subword_prefix": "xx", "merges": [["h", "e"], ["l", ""]]}
    content["model"]["vocab"][""] = len(content["model"]["vocab"])
    with pytest.raises(ModelError, match=r"tokenizer\.json: .*fetch the file again"):
        Tokenizer.from_folder(save_folder(tmp_path / "model", content))
