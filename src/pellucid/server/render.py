"""Outputs in OpenAI's shapes, the same code for whole answers and for chunks of a stream.

A `Choice` keeps what one answer needs between its chunks: how many tokens and how much text it has
had. Whole answers are the same chunk made once, from all outputs merged, so that the deltas of a
stream join to what the plain call returns.

Log-probabilities: the chosen token's number and its entry among the top ones are the same float,
so that `logprob == max(top.values())` means greedy, as evaluation harnesses have it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pellucid.request import Output, TokenLogprob
from pellucid.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the answers of one call are to look."""

    id: str
    created: int
    model: str
    tokenizer: Tokenizer | None
    chat: bool
    num_top: int | None
    """Most likely tokens to show beside each chosen one; None: no log-probabilities."""
    num_prompt_top: int | None
    """The same for the prompt's tokens, in `prompt_logprobs`."""
    echo: bool
    token_ids: bool
    skip_special_tokens: bool
    names_are_ids: bool = False
    """Tokens are named token_id:N instead of by their text."""
    include_stop: bool = False
    """The stop string that ended an answer stays in its text."""
    only_scores: bool = False
    """The prompt was to be scored: the one token that the engine made is not shown."""

    def head(self, chunk: bool) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        if chunk and self.chat:
            kind += ".chunk"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def merge(parts: Sequence[Output]) -> Output:
    """The whole of one answer from its increments."""
    first, last = parts[0], parts[-1]
    logprobs = [part.logprobs for part in parts if part.logprobs is not None]
    return Output(
        request_id=last.request_id,
        index=last.index,
        prompt_token_ids=first.prompt_token_ids,
        token_ids=[token for part in parts for token in part.token_ids],
        text="".join(part.text for part in parts),
        logprobs=[entry for entries in logprobs for entry in entries] if logprobs else None,
        prompt_logprobs=first.prompt_logprobs,
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
        error=last.error,
        stats=last.stats,
    )


def usage(num_prompt: int, num_completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
    }


@dataclass
class Choice:
    """One answer: number `index` of the call."""

    form: Form
    index: int
    prompt_text: str
    prompt_token_ids: list[int]
    num_tokens: int = 0
    _begun: bool = False
    _offsets: Offsets = field(init=False)

    def __post_init__(self) -> None:
        self._offsets = Offsets(self.form.tokenizer, self.form.skip_special_tokens)

    def whole(self, output: Output) -> dict[str, Any]:
        """The choice of a plain answer."""
        output = self._as_asked(output)
        entry = self._content(output, "message" if self.form.chat else "text")
        return entry | {"finish_reason": output.finish_reason, "stop_reason": output.stop_reason}

    def chunks(self, output: Output) -> Iterable[dict[str, Any]]:
        """The choices of the chunks for an increment: its content, then its end."""
        output = self._as_asked(output)
        kind = "delta" if self.form.chat else "text"
        if output.text or output.token_ids or not self._begun:
            yield self._content(output, kind) | {"finish_reason": None}
        if output.finish_reason is not None:
            entry: dict[str, Any] = {"index": self.index, kind: {} if self.form.chat else ""}
            ends = {"finish_reason": output.finish_reason, "stop_reason": output.stop_reason}
            yield entry | {"logprobs": None} | ends

    def role(self) -> dict[str, Any]:
        """The first chunk of a chat: who speaks."""
        delta = {"role": "assistant", "content": ""}
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _as_asked(self, output: Output) -> Output:
        """The part of `output` that this call is to see."""
        if self.form.only_scores:
            reason = output.finish_reason and "length"
            scores: list[TokenLogprob] | None = None if output.logprobs is None else []
            shown = {"text": "", "token_ids": [], "logprobs": scores}
            return msgspec.structs.replace(output, **shown, finish_reason=reason, stop_reason=None)
        if self.form.include_stop and isinstance(output.stop_reason, str):
            return msgspec.structs.replace(output, text=output.text + output.stop_reason)
        return output

    def _content(self, output: Output, kind: str) -> dict[str, Any]:
        form = self.form
        first, self._begun = not self._begun, True
        self.num_tokens += len(output.token_ids)
        content: Any = output.text
        if form.echo and first:
            content = self.prompt_text + content
        if kind == "message":
            content = {"role": "assistant", "content": content, "refusal": None}
        elif kind == "delta":
            content = {"content": content}
        entry = {"index": self.index, kind: content, "logprobs": self._logprobs(output, first)}
        if form.token_ids:
            entry["token_ids"] = output.token_ids
            if first:
                entry["prompt_token_ids"] = self.prompt_token_ids
        if form.num_prompt_top is not None and first:
            entry["prompt_logprobs"] = [
                entry and self._named(entry, form.num_prompt_top)
                for entry in output.prompt_logprobs or []
            ]
        return entry

    def _logprobs(self, output: Output, first: bool) -> dict[str, Any] | None:
        num_top = self.form.num_top
        if num_top is None:
            return None
        if self.form.chat:
            return {"content": [self._named(entry, num_top) for entry in output.logprobs or []]}
        entries: list[TokenLogprob | None] = [*(output.logprobs or [])]
        ids = list(output.token_ids)
        if self.form.echo and first:
            entries = [*(output.prompt_logprobs or []), *entries]
            ids = [*self.prompt_token_ids, *ids]
        return {
            "tokens": [self._name(token) for token in ids],
            "token_logprobs": [entry and entry.logprob for entry in entries],
            "top_logprobs": [entry and self._top(entry, num_top) for entry in entries],
            "text_offset": [self._offsets.advance(token) for token in ids],
        }

    def _top(self, entry: TokenLogprob, num_top: int) -> dict[str, float]:
        """Most likely first; the chosen token is always there. Of like names the likelier stays."""
        best: dict[str, float] = {}
        for token, logprob in [*entry.top[:num_top], (entry.token_id, entry.logprob)]:
            best.setdefault(self._name(token), logprob)
        return best

    def _name(self, token: int) -> str:
        return token_name(None if self.form.names_are_ids else self.form.tokenizer, token)

    def _named(self, entry: TokenLogprob, num_top: int) -> dict[str, Any]:
        top = [self._entry(*pair) for pair in entry.top[:num_top]]
        return self._entry(entry.token_id, entry.logprob) | {"top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        """A token as chats show it, with its bytes, and with its id."""
        tokenizer = self.form.tokenizer
        data = None if tokenizer is None else tokenizer.token_bytes(token)
        plain = data is not None and not self.form.names_are_ids
        return {
            "token": data.decode(errors="replace") if data and plain else self._name(token),
            "token_id": token,
            "logprob": logprob,
            "bytes": None if data is None else list(data),
        }


def token_name(tokenizer: Tokenizer | None, token: int) -> str:
    """A token as text; one that is no whole text shows its bytes, as OpenAI's completions do."""
    if tokenizer is None:
        return f"token_id:{token}"
    data = tokenizer.token_bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class Offsets:
    """Where each token begins in the text of its choice, in characters."""

    def __init__(self, tokenizer: Tokenizer | None, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0

    def advance(self, token: int) -> int:
        start = self._length
        tokenizer = self._tokenizer
        if tokenizer and not (self._skip and tokenizer.is_special(token)):
            self._length += len(self._decoder.decode(tokenizer.token_bytes(token)))
        return start
