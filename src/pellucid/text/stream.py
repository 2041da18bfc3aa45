"""One answer's text as it grows: tokens in, text out that will not change any more.

Two things hold text back: bytes that are not yet a whole character, and characters that may be the
beginning of a stop string. Both are let go when the next token decides, or at the end.

`NullText` is the off form, for engines without a tokenizer: there is no text, only ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pellucid.errors import InputError
from pellucid.request import SamplingParams
from pellucid.text.detokenize import detokenizer
from pellucid.text.stop import StopMatcher
from pellucid.text.tokenizer import Tokenizer


class Text(Protocol):
    @property
    def stopped(self) -> str | None:
        """The stop string that was found, if one was; the text ends before it."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next tokens; return the text that is certain now."""

    def finish(self) -> str:
        """There are no more tokens: what was held back."""


class NullText:
    """Off: no text."""

    stopped: str | None = None

    def push(self, token_ids: Sequence[int]) -> str:
        return ""

    def finish(self) -> str:
        return ""


class TextStream:
    """The text of the tokens that go on from a prompt, up to the first stop string."""

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams) -> None:
        self._detokenizer = detokenizer(
            tokenizer, skip_special_tokens=params.skip_special_tokens, continues=True
        )
        self._stops = StopMatcher(params.stop)

    @property
    def stopped(self) -> str | None:
        return self._stops.stopped

    def push(self, token_ids: Sequence[int]) -> str:
        return self._stops.push(self._detokenizer.push(token_ids))

    def finish(self) -> str:
        return self._stops.push(self._detokenizer.finish()) + self._stops.finish()


def open_text(tokenizer: Tokenizer | None, params: SamplingParams) -> Text:
    """The text of one new answer. Stop strings without a tokenizer are an `InputError`."""
    if tokenizer is not None:
        return TextStream(tokenizer, params)
    if params.stop:
        raise InputError(
            "stop strings need a tokenizer, and this model came without one; use stop_token_ids",
            param="stop",
        )
    return NullText()
