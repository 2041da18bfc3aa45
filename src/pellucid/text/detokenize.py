"""Token ids to text, a few at a time.

Problem: a character may be spread over several tokens, so the text of a token alone is not a piece
of the whole text, and decoding everything again at each step is quadratic.

Idea: tokens are bytes, and UTF-8 can be decoded incrementally: bytes that may still become a
character wait in the decoder, all others leave as text. One dictionary look-up a token. The pieces
joined are the text of all the tokens, wherever they were cut.

For the few vocabularies whose text is not the sum of its tokens' bytes, `WholeDetokenizer` decodes
all ids each time, and lets out what the newest token has left as it was.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from pellucid.text.tokenizer import Tokenizer


class Detokenizer(Protocol):
    """The incremental form of `Tokenizer.decode`."""

    def push(self, ids: Sequence[int]) -> str:
        """Take the next tokens; return the text that they complete."""

    def finish(self) -> str:
        """There are no more tokens: the rest of the text."""


def detokenizer(
    tokenizer: Tokenizer, *, skip_special_tokens: bool = True, continues: bool = False
) -> Detokenizer:
    """The one that fits `tokenizer`.

    `continues` says that the tokens go on from a prompt, so that a space before the first word
    belongs to the text. Otherwise they are decoded as the beginning of one; that differs only for
    vocabularies that put a space before every text.
    """
    whole = tokenizer.codec.whole
    if whole is not None:
        return WholeDetokenizer(tokenizer, whole, skip_special_tokens)
    strips = tokenizer.codec.leading_space and not continues
    return ByteDetokenizer(tokenizer, skip_special_tokens, strips)


class ByteDetokenizer:
    """For vocabularies whose text is the sum of its tokens' bytes."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool, strips_space: bool) -> None:
        self._piece = tokenizer.token_bytes
        self._skipped = tokenizer.codec.special if skip_special_tokens else frozenset[int]()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strips_space = strips_space

    def push(self, ids: Sequence[int]) -> str:
        data = b"".join([self._piece(i) for i in ids if i not in self._skipped])
        return self._begin(self._utf8.decode(data))

    def finish(self) -> str:
        return self._begin(self._utf8.decode(b"", final=True))

    def _begin(self, text: str) -> str:
        if self._strips_space and text:
            self._strips_space = False
            return text.removeprefix(" ")
        return text


class WholeDetokenizer:
    """For all others. Takes time in proportion to the text so far at each step."""

    def __init__(
        self, tokenizer: Tokenizer, whole: Callable[[list[int]], str], skip_special_tokens: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._whole = whole
        self._skip = skip_special_tokens
        self._ids: list[int] = []
        self._text = ""
        self._length = 0

    def push(self, ids: Sequence[int]) -> str:
        out = ""
        for token in self._tokenizer.kept(ids, self._skip):
            self._ids.append(token)
            text = self._whole(self._ids)
            settled = common_prefix(self._text, text).rstrip("�")
            self._text = text
            out += settled[self._length :]
            self._length = max(self._length, len(settled))
        return out

    def finish(self) -> str:
        rest = self._text[self._length :]
        self._length = len(self._text)
        return rest


def common_prefix(one: str, other: str) -> str:
    """The longest text that both begin with."""
    if other.startswith(one):
        return one
    ends = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(ends, min(len(one), len(other)))]
