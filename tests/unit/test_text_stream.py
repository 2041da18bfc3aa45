"""Detokenizing and stop strings: whatever the cut, the same text, and never half a character."""

from __future__ import annotations

from itertools import chain, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from text_vocab import byte_level, spm

from pellucid.errors import InputError
from pellucid.request import SamplingParams
from pellucid.text.detokenize import detokenizer
from pellucid.text.stop import StopMatcher
from pellucid.text.stream import NullText, TextStream, open_text
from pellucid.text.tokenizer import Tokenizer

BYTES = byte_level()
SPM = spm()
SPM_BARE = spm(add_space_prefix=False)
TOKENIZERS = st.sampled_from([BYTES, SPM, SPM_BARE])


def ids_of(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    """Ids as a model could give them: of texts, and any at all."""
    some = st.text(max_size=12).map(lambda text: tokenizer.encode(text))
    wild = st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=20)
    return st.lists(st.one_of(some, wild), max_size=4).map(
        lambda lists: [*chain.from_iterable(lists)]
    )


@st.composite
def answers(draw: st.DrawFn) -> tuple[Tokenizer, list[int], list[list[int]]]:
    """A tokenizer, ids, and the same ids in pieces."""
    tokenizer = draw(TOKENIZERS)
    ids = draw(ids_of(tokenizer))
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    return tokenizer, ids, [ids[a:b] for a, b in pairwise([0, *cuts, len(ids)])]


@given(answers(), st.booleans())
def test_pieces_join_to_the_whole(
    answer: tuple[Tokenizer, list[int], list[list[int]]], skip: bool
) -> None:
    tokenizer, ids, pieces = answer
    stream = detokenizer(tokenizer, skip_special_tokens=skip)
    text = "".join([*map(stream.push, pieces), stream.finish()])
    assert text == tokenizer.decode(ids, skip_special_tokens=skip)


@given(TOKENIZERS, st.text(max_size=40))
def test_never_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    text = text.replace("\ufffd", "?")
    stream = detokenizer(tokenizer)
    out = ""
    for token in tokenizer.encode(text):
        piece = stream.push([token])
        assert "\ufffd" not in piece
        out += piece
        assert text.replace("▁", " ").startswith(out) or tokenizer is BYTES
    assert out == (text if tokenizer is BYTES else text.replace("▁", " "))
    assert stream.finish() == ""


def test_broken_bytes_show_at_the_end() -> None:
    stream = detokenizer(BYTES)
    first = BYTES.encode("😀")[0]
    assert stream.push([first]) == ""
    assert stream.finish() == "\ufffd"


def test_a_continuation_keeps_its_space() -> None:
    ids = SPM.encode("hello", add_special_tokens=False)
    assert SPM.decode(ids) == "hello"
    assert detokenizer(SPM).push(ids) == "hello"
    assert detokenizer(SPM, continues=True).push(ids) == " hello"
    assert TextStream(SPM, SamplingParams()).push(ids) == " hello"


def naive_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The definition: the stop string that ends first cuts, of several the longest."""
    found = [(text.find(s) + len(s), -len(s), s) for s in stops if s in text]
    if not found:
        return text, None
    end, _, stop = min(found)
    return text[: end - len(stop)], stop


STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=4)


@given(
    st.one_of(st.text("ab\nc", max_size=40), st.text("ab", min_size=20, max_size=60)),
    st.one_of(STOPS, st.lists(st.text("ab", min_size=5, max_size=9), min_size=1, max_size=3)),
    st.lists(st.integers(0, 60), max_size=12),
)
@example("aabaabaaab", ["aabaaab"], [3, 6])
def test_stop_strings_cut_exactly(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    want, stop = naive_stop(text, stops)
    out = ""
    for a, b in pairwise([0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]):
        out += matcher.push(text[a:b])
        assert want.startswith(out)
        if matcher.stopped is None:
            # What is held back must be the beginning of a stop string: nothing waits in vain.
            held = text[len(out) : b]
            assert not held or any(s.startswith(held) for s in stops)
    out += matcher.finish()
    assert (out, matcher.stopped) == (want, stop)


@given(st.text("ab\nc", max_size=25), STOPS)
def test_nothing_after_the_stop(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    matcher.push(text)
    if matcher.stopped is not None:
        assert matcher.push("more") == "" == matcher.finish()


@pytest.mark.parametrize(
    ("stops", "want", "stop"),
    [
        (("wor",), "hello ", "wor"),
        (("lo w",), "hel", "lo w"),
        ((" world!",), "hello world", None),
        (("world", "lo wo"), "hel", "lo wo"),
        (("world", "d"), "hello ", "world"),
        (("é",), "hello world", None),
    ],
)
def test_stop_over_token_borders(stops: tuple[str, ...], want: str, stop: str | None) -> None:
    stream = open_text(BYTES, SamplingParams(stop=stops))
    out = ""
    for token in BYTES.encode("hello world"):
        if stream.stopped is None:
            out += stream.push([token])
    out += stream.finish()
    assert (out, stream.stopped) == (want, stop)


def test_stop_string_of_half_characters() -> None:
    stream = open_text(BYTES, SamplingParams(stop=("é",)))
    ids = BYTES.encode("aéb")
    assert "".join(stream.push([token]) for token in ids) == "a"
    assert stream.stopped == "é"


def test_held_text_comes_at_the_end() -> None:
    stream = open_text(BYTES, SamplingParams(stop=("hello world",)))
    assert stream.push(BYTES.encode("hello wor")) == ""
    assert stream.finish() == "hello wor"
    assert stream.stopped is None


def test_a_stop_string_may_end_in_the_last_flush() -> None:
    stream = open_text(BYTES, SamplingParams(stop=("\ufffd",)))
    assert stream.push([BYTES.encode("a")[0], BYTES.encode("😀")[0]]) == "a"
    assert stream.finish() == ""
    assert stream.stopped == "\ufffd"


def test_special_tokens_in_the_stream() -> None:
    ids = BYTES.encode("<|im_start|>a", parse_special=True)
    assert open_text(BYTES, SamplingParams()).push(ids) == "a"
    shown = open_text(BYTES, SamplingParams(skip_special_tokens=False))
    assert shown.push(ids) == "<|im_start|>a"


@pytest.mark.parametrize(
    ("answer", "stops", "want", "stop"),
    [
        ("hello<|im_end|>world", ("<|im_end|>",), "hello", "<|im_end|>"),
        ("hello\n<|im_start|>user", ("\n<|im_start|>user",), "hello", "\n<|im_start|>user"),
        ("a<|im_start|>b<|im_end|>c", ("x<|im_end|>",), "abc", None),
        ("a<|im_start|>b<|im_end|>c", ("<|im_end|>", "b<"), "a", "b<"),
        ("<|im_start|>hello<|im_end|>", ("hello<|im_end|>",), "", "hello<|im_end|>"),
        ("<|im_start|>", ("<|im_start|>x",), "", None),
        ("é<|im_start|><|im_start|><tool>a", ("<|im_end|>",), "é<tool>a", None),
    ],
)
def test_stop_strings_may_name_special_tokens(
    answer: str, stops: tuple[str, ...], want: str, stop: str | None
) -> None:
    """They are not in the text that is shown, and yet they end it."""
    for size in (1, 2, 50):
        stream = open_text(BYTES, SamplingParams(stop=stops))
        ids = BYTES.encode(answer)
        text = "".join(stream.push(ids[i : i + size]) for i in range(0, len(ids), size))
        assert (text + stream.finish(), stream.stopped) == (want, stop)


@given(answers())
def test_looking_for_special_tokens_changes_no_text(
    answer: tuple[Tokenizer, list[int], list[list[int]]],
) -> None:
    """But for half characters, which end where a special token stands."""
    tokenizer, _, pieces = answer
    name = next(iter(tokenizer.parsed_names))
    stream = open_text(tokenizer, SamplingParams(stop=(f"{name} never said",)))
    plain = open_text(tokenizer, SamplingParams())
    text = "".join([*map(stream.push, pieces), stream.finish()])
    want = "".join([*map(plain.push, pieces), plain.finish()])
    assert text == want or "\ufffd" in text


def test_without_tokenizer() -> None:
    text = open_text(None, SamplingParams(max_tokens=3))
    assert isinstance(text, NullText)
    assert (text.push([1, 2]), text.finish(), text.stopped) == ("", "", None)
    with pytest.raises(InputError, match="stop strings need a tokenizer"):
        open_text(None, SamplingParams(stop=("x",)))
