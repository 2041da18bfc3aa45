"""One answer's text as it grows: tokens in, text out that will not change any more.

Two things hold text back: bytes that are not yet a whole character, and characters that may be the
beginning of a stop string. Both are let go when the next token decides, or at the end.

`NullText` is the off form, for engines without a tokenizer: there is no text, only ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from pellucid.errors import InputError
from pellucid.request import SamplingParams
from pellucid.text.detokenize import Detokenizer, detokenizer
from pellucid.text.stop import StopMatcher
from pellucid.text.tokenizer import Tokenizer


class Text(Protocol):
    @property
    def stopped(self) -> str | None:
        """The stop string that was found, if one was; the text ends before it."""

    def push(self, token_ids: Sequence[int], *, may_stop: bool = True) -> str:
        """Take the next tokens; return the text that is certain now.

        Without `may_stop` their text begins no stop string.
        """

    def finish(self) -> str:
        """There are no more tokens: what was held back."""


class NullText:
    """Off: no text."""

    stopped: str | None = None

    def push(self, token_ids: Sequence[int], *, may_stop: bool = True) -> str:
        return ""

    def finish(self) -> str:
        return ""


class TextStream:
    """The text of the tokens that go on from a prompt, up to the first stop string."""

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams) -> None:
        skips = params.skip_special_tokens
        names = tokenizer.parsed_names
        self._hidden = Hidden(tokenizer)
        if skips and any(name in stop for stop in params.stop for name in names):
            self._detokenizer: Detokenizer = self._hidden
        else:
            self._detokenizer = detokenizer(tokenizer, skip_special_tokens=skips, continues=True)
        self._stops = StopMatcher(params.stop)

    @property
    def stopped(self) -> str | None:
        return self._stops.stopped

    def push(self, token_ids: Sequence[int], *, may_stop: bool = True) -> str:
        text = self._detokenizer.push(token_ids)
        return self._hidden.shown(self._stops.push(text) if may_stop else text)

    def finish(self) -> str:
        text = self._stops.push(self._detokenizer.finish()) + self._stops.finish()
        return self._hidden.shown(text)


class Hidden:
    """A detokenizer that writes the names of special tokens, and takes them out again afterwards.

    A stop string like `<|im_end|>` names a special token, which the text does not show: it is
    looked for in the text with the names, and the caller is shown the text without.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._inner = detokenizer(tokenizer, skip_special_tokens=False, continues=True)
        self._tokenizer = tokenizer
        self._names: deque[tuple[int, int]] = deque()
        """Where names begin and end, in characters of the text with the names."""
        self._written = 0
        self._shown = 0

    def push(self, ids: Sequence[int]) -> str:
        text = ""
        for token in ids:
            piece = self._inner.push([token])
            if self._tokenizer.is_special(token):
                name = self._tokenizer.token_text(token)
                at = self._written + max(piece.rfind(name), 0)
                self._names.append((at, at + len(name)))
            self._written += len(piece)
            text += piece
        return text

    def finish(self) -> str:
        text = self._inner.finish()
        self._written += len(text)
        return text

    def shown(self, text: str) -> str:
        """`text`, which goes on from the last call's, without the names in it."""
        begin, self._shown = self._shown, self._shown + len(text)
        kept, at = "", begin
        while self._names and self._names[0][0] < self._shown:
            start, end = self._names[0]
            kept += text[at - begin : max(start, at) - begin]
            at = max(at, min(end, self._shown))
            if end > self._shown:
                break
            self._names.popleft()
        return kept + text[at - begin :]


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
