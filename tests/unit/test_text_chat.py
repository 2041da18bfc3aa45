"""Chat templates: what they may do, and that text in a message stays text."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_vocab import (
    TEMPLATE,
    byte_level,
    byte_level_metadata,
    save_folder,
    spm_metadata,
    tokenizer_json,
)

from pellucid.errors import InputError, ModelError
from pellucid.text import chat
from pellucid.text.chat import encode_chat, render_chat
from pellucid.text.tokenizer import Tokenizer

CHAT = byte_level()
HELLO = [{"role": "user", "content": "hello"}]


def with_template(template: str | None) -> Tokenizer:
    return Tokenizer.from_gguf({**byte_level_metadata(), "tokenizer.chat_template": template})


def test_prompt() -> None:
    assert render_chat(CHAT, HELLO) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render_chat(CHAT, HELLO, add_generation_prompt=False) == (
        "<|im_start|>user\nhello<|im_end|>\n"
    )


def test_special_tokens_of_the_template_are_special() -> None:
    ids = encode_chat(CHAT, HELLO)
    assert [token for token in ids if CHAT.is_special(token)] == [1, 2, 1]
    assert CHAT.decode(ids, skip_special_tokens=False) == render_chat(CHAT, HELLO)


CONTENT = st.lists(
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>", "system", "<", "<|im", "_end|>", "\n", " ", "é", "<tool>"]
    ),
    max_size=8,
).map("".join)


@given(st.lists(CONTENT, min_size=1, max_size=3))
def test_text_in_a_message_is_text(contents: list[str]) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    ids = encode_chat(CHAT, messages)
    # Only the template's own: two around each message, one before the answer.
    assert [token for token in ids if CHAT.is_special(token)] == [1, 2] * len(messages) + [1]
    assert CHAT.decode(ids, skip_special_tokens=False) == render_chat(CHAT, messages)


def test_text_in_other_variables_is_text() -> None:
    tokenizer = with_template("{{ bos_token }}{{ facts[0] }}")
    ids = encode_chat(tokenizer, HELLO, facts=["a<|im_end|>"])
    assert [token for token in ids if tokenizer.is_special(token)] == [1]
    assert tokenizer.decode(ids) == "a<|im_end|>"


def test_keys_are_text_too() -> None:
    """The schema of a tool is given to the template as it was sent."""
    for call in ("tojson", "tojson(ensure_ascii=True)"):
        tokenizer = with_template("{{ tools | CALL }}".replace("CALL", call))
        ids = encode_chat(tokenizer, HELLO, tools=[{"parameters": {"x<|im_end|>": 1}}])
        assert not any(map(tokenizer.is_special, ids))
        assert tokenizer.decode(ids) == '[{"parameters": {"x<|im_end|>": 1}}]'


def test_names_that_converters_mistype_are_text_in_a_message() -> None:
    metadata = byte_level_metadata()
    tokens, types = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type"))
    tokenizer = byte_level(tokens=[*tokens, "<|fim_prefix|>"], token_type=[*types, 1])
    mark = len(tokens)
    assert tokenizer.encode("<|fim_prefix|>") == [mark]
    ids = encode_chat(tokenizer, [{"role": "user", "content": "a<|fim_prefix|>"}])
    assert mark not in ids
    assert "a<|fim_prefix|>" in tokenizer.decode(ids)


def test_text_in_a_message_is_text_for_spm() -> None:
    template = "<s>{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    tokenizer = Tokenizer.from_gguf({**spm_metadata(), "tokenizer.chat_template": template})
    ids = encode_chat(tokenizer, [{"role": "user", "content": "a</s><s>b"}])
    assert [token for token in ids if tokenizer.is_special(token)] == [1, 2]
    assert tokenizer.decode(ids) == "a</s><s>b"


def test_the_mark_is_not_in_the_messages() -> None:
    mark = chr(0xF0000)
    messages = [{"role": "user", "content": f"{mark}<|im_end|>{mark}"}]
    ids = encode_chat(CHAT, messages)
    assert CHAT.decode(ids, skip_special_tokens=False) == render_chat(CHAT, messages)


@given(st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=20))
def test_ordinary_messages_are_simply_encoded(text: str) -> None:
    messages = [{"role": "user", "content": text}]
    want = CHAT.encode(render_chat(CHAT, messages), add_special_tokens=False, parse_special=True)
    assert encode_chat(CHAT, messages) == want


def test_text_parts() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert "user\none\ntwo<|im_end|>" in render_chat(CHAT, [{"role": "user", "content": parts}])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages is empty"),
        (["hello"], r"messages\[0\] must be an object"),
        ([{"content": "x"}], r"messages\[0\]\.role must be a word, not None"),
        ([*HELLO, {"role": 3, "content": "x"}], r"messages\[1\]\.role must be a word, not 3"),
        ([{"role": "user"}], r"messages\[0\]\.content must be text"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content must be text"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            r"messages\[0\]\.content\[0\] must be .*not supported",
        ),
        ([{"role": "user", "content": "\ud800"}], "lone surrogate"),
    ],
)
def test_bad_messages(messages: Any, message: str) -> None:
    for function in (encode_chat, render_chat):
        with pytest.raises(InputError, match=message):
            function(CHAT, messages)


def test_no_template() -> None:
    with pytest.raises(InputError, match=r"no chat template.*use completions"):
        encode_chat(with_template(None), HELLO)


def test_broken_template() -> None:
    with pytest.raises(ModelError, match="no valid Jinja, line 2"):
        encode_chat(with_template("{{ a }}\n{% if %}"), HELLO)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "says: roles must alternate"),
        ("{{ messages[0].content.missing.more }}", "failed on these messages: .*missing"),
        ("{{ 1 // 0 }}", "failed on these messages: .*zero"),
        ("{{ messages.append(1) }}", "failed on these messages: "),
        ("{{ ''.__class__.__mro__ }}", "failed on these messages: .*unsafe"),
        ("{{ bos_token.__init__.__globals__ }}", "failed on these messages: .*unsafe"),
        ("{% for i in range(10**9) %}x{% endfor %}", "failed on these messages: Range too big"),
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "failed on these messages: .*recursion",
        ),
    ],
)
def test_template_refuses_or_fails(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        render_chat(with_template(template), HELLO)
    assert caught.value.param == "messages"


def test_template_writes_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MAX_CHARS", 1000)
    template = "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}"
    with pytest.raises(InputError, match="more than 1000 characters"):
        render_chat(with_template(template), HELLO)


@pytest.mark.parametrize(
    ("template", "want"),
    [
        ("{{ bos_token }}{{ eos_token }}{{ pad_token }}", "<|im_start|><|im_end|><|im_end|>"),
        ("{% if tools %}t{% endif %}{% if documents %}d{% endif %}.", "."),
        ("{{ {'a': '<é>', 'b': [1]} | tojson }}", '{"a": "<é>", "b": [1]}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{% for m in messages %}\n  {% if true %}\nx\n  {% endif %}\n{% endfor %}", "x\n"),
        ("{% generation %}a{{ 1 }}{% endgeneration %}b", "a1b"),
        ("{{ messages[0].content | trim | upper }}", "HELLO"),
        ("{{ messages[0]['name'] }}", ""),
        ("{% set ns = namespace(n=0) %}{% set ns.n = 2 %}{{ ns.n }}", "2"),
    ],
)
def test_what_templates_use(template: str, want: str) -> None:
    assert render_chat(with_template(template), HELLO) == want


TEXT = [{"role": "user", "content": "Köln <b>"}]


@pytest.mark.parametrize(
    ("call", "want"),
    [
        ("tojson", '["Köln <b>", {"b": 1, "a": 2}]'),
        ("tojson(ensure_ascii=False)", '["Köln <b>", {"b": 1, "a": 2}]'),
        ("tojson(ensure_ascii=True)", '["K\\u00f6ln <b>", {"b": 1, "a": 2}]'),
        ("tojson(True)", '["K\\u00f6ln <b>", {"b": 1, "a": 2}]'),
        ("tojson(sort_keys=True)", '["Köln <b>", {"a": 2, "b": 1}]'),
        ("tojson(separators=(',', ':'))", '["Köln <b>",{"b":1,"a":2}]'),
        ("tojson(ensure_ascii=False, indent=1)", '[\n "Köln <b>",\n {\n  "b": 1,\n  "a": 2\n }\n]'),
    ],
)
def test_tojson_takes_what_transformers_takes(call: str, want: str) -> None:
    template = "{{ [messages[0].content, {'b': 1, 'a': 2}] | CALL }}".replace("CALL", call)
    assert render_chat(with_template(template), TEXT) == want


def test_templates_know_tokens_by_their_roles() -> None:
    tokenizer = with_template("{{ bos_token }}{{ unk_token }}{{ pad_token }}{{ cls_token }}")
    assert render_chat(tokenizer, HELLO) == "<|im_start|><|endoftext|><|im_end|>"


def test_roles_in_a_folder(tmp_path: Path) -> None:
    config = {
        "bos_token": "<|im_start|>",
        "sep_token": {"content": "<|im_end|>"},
        "additional_special_tokens": ["<a>", {"content": "<b>"}],
        "chat_template": "{{ bos_token }}{{ sep_token }}{{ additional_special_tokens[1] }}",
    }
    content = tokenizer_json(byte_level_metadata())
    folder = save_folder(tmp_path / "model", content, tokenizer_config=config)
    tokenizer = Tokenizer.from_folder(folder)
    assert render_chat(tokenizer, HELLO) == "<|im_start|><|im_end|><b>"
    with pytest.raises(InputError, match="'sep_token' cannot be set"):
        render_chat(tokenizer, HELLO, sep_token="x")


def space_folder(path: Path, rstrip: bool) -> Tokenizer:
    """SentencePiece with a space before the first word only; special tokens may swallow spaces."""
    pieces = ["▁", *"abc<>/s[]INT", "▁a", "▁b", *(f"<0x{value:02X}>" for value in range(256))]
    names = ["<s>", "</s>", "[INST]", "[/INST]"]
    flags = {"single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": False}
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    content = tokenizer_json(byte_level_metadata()) | {
        "added_tokens": [
            {"id": len(pieces) + i, "content": name, "special": True, **flags}
            for i, name in enumerate(names)
        ],
        "pre_tokenizer": first,
        "decoder": first,
    }
    content["model"] |= {
        "byte_fallback": True,
        "vocab": {text: token for token, text in enumerate([*pieces, *names])},
        "merges": [["▁", "a"], ["▁", "b"]],
    }
    template = "{{ bos_token }}{% for m in messages %}[INST]{{ m.content }}[/INST]\n{% endfor %}"
    config = {"bos_token": "<s>", "chat_template": template}
    return Tokenizer.from_folder(save_folder(path, content, tokenizer_config=config))


@pytest.mark.parametrize("rstrip", [False, True])
@given(st.lists(st.sampled_from(["a", " b", "</s>", "[INST]", "\n", "</s", "c", " "]), max_size=6))
def test_a_name_in_a_message_changes_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, rstrip: bool, parts: list[str]
) -> None:
    """What the template wrote around the message has the ids that it has around any other."""
    folder = tmp_path_factory.getbasetemp() / f"space-{rstrip}"
    tokenizer = space_folder(folder, rstrip)

    def around(content: str) -> tuple[list[int], list[int]]:
        ids = encode_chat(tokenizer, [{"role": "user", "content": f"c{content}c"}])
        special = [place for place, token in enumerate(ids) if tokenizer.is_special(token)]
        assert len(special) == 3
        return ids[: special[1] + 2], ids[special[2] - 1 :]

    assert around("".join(parts)) == around("")
    ids = encode_chat(tokenizer, [{"role": "user", "content": "".join(["c", *parts, "c"])}])
    assert "".join(["c", *parts, "c"]) in tokenizer.decode(ids, skip_special_tokens=False)


def test_today() -> None:
    year = render_chat(with_template("{{ strftime_now('%Y') }}"), HELLO)
    assert int(year) - datetime.now().year in (-1, 0)


def test_more_variables() -> None:
    tokenizer = with_template("{% if enable_thinking %}<think>{% endif %}x")
    assert render_chat(tokenizer, HELLO) == "x"
    assert render_chat(tokenizer, HELLO, enable_thinking=True) == "<think>x"
    assert len(encode_chat(tokenizer, HELLO, enable_thinking=True)) == len("<think>x")


@pytest.mark.parametrize("name", ["messages", "bos_token", "raise_exception"])
def test_variables_that_cannot_be_set(name: str) -> None:
    variables: dict[str, Any] = {name: "x"}
    with pytest.raises(InputError, match=f"{name!r} cannot be set"):
        encode_chat(CHAT, HELLO, **variables)


def test_add_generation_prompt_is_a_flag() -> None:
    wrong: Any = "yes"
    with pytest.raises(InputError, match="add_generation_prompt must be true or false"):
        encode_chat(CHAT, HELLO, add_generation_prompt=wrong)


def test_messages_are_left_as_they_were() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "<|im_end|>"}]}]
    encode_chat(CHAT, messages)
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "<|im_end|>"}]}]


def test_the_template_of_these_tests() -> None:
    assert CHAT.chat_template == TEMPLATE
    assert re.findall(r"<\|\w+\|>", TEMPLATE) == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]


PREFILL = [*HELLO, {"role": "assistant", "content": "Well, "}]


def test_the_last_message_can_be_continued() -> None:
    ids = encode_chat(CHAT, PREFILL, add_generation_prompt=False, continue_final_message=True)
    text = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nWell, "
    assert CHAT.decode(ids, skip_special_tokens=False) == text
    assert [token for token in ids if CHAT.is_special(token)] == [1, 2, 1]


def test_a_template_that_trims_trims_the_continued_message_too() -> None:
    tokenizer = with_template("{% for m in messages %}[{{ m.content | trim }}]{% endfor %}")
    ids = encode_chat(tokenizer, PREFILL, continue_final_message=True)
    assert tokenizer.decode(ids) == "[hello][Well,"


def test_names_of_special_tokens_in_a_continued_message_are_text() -> None:
    messages = [{"role": "assistant", "content": "a<|im_end|>"}]
    ids = encode_chat(CHAT, messages, continue_final_message=True)
    assert [token for token in ids if CHAT.is_special(token)] == [1]
    assert CHAT.decode(ids, skip_special_tokens=False).endswith("a<|im_end|>")


def test_a_message_that_is_not_written_cannot_be_continued() -> None:
    with pytest.raises(InputError, match="nothing to go on from"):
        encode_chat(with_template("hello"), PREFILL, continue_final_message=True)
