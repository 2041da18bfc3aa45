"""What a request may say: every field is honoured, a documented no-op, or refused by name.

An engine that ignores a field it does not know returns a wrong answer and no error. So a body is
sorted first (`parsing.py`, by the tables of `fields.py`), then fitted into one of the structs here;
ranges are checked where they are defined, by `SamplingParams`. A field that is absent or null takes
the model's own sampling default, if the model has one, else that of `SamplingParams`.

Beyond OpenAI's fields, in both kinds of completion:

* `top_k`, `min_p`, `repetition_penalty` (also `repeat_penalty`), `min_tokens`, `ignore_eos`,
  `stop_token_ids`, `skip_special_tokens`, `prompt_logprobs`: of `SamplingParams`
* `top_k: -1` keeps all tokens, `seed: -1` takes a fresh seed, `max_tokens: -1` goes on until the
  context is full
* `return_token_ids`: the ids of prompt and answer; `return_tokens_as_token_ids`: where tokens are
  named by their text (log-probabilities), they are named `token_id:N`
* `truncate_prompt_tokens`: keep the last N tokens of the prompt, and the BOS that it begins with;
  -1: as many as the context leaves beside `max_tokens`
* `include_stop_str_in_output`: the stop string that ended the answer stays in its text

In completions: `add_special_tokens` (the tokenizer's BOS or EOS around a text prompt),
`parse_special` (names of special tokens in a text prompt are those tokens; false: they are text),
and `max_tokens: 0` with `echo` or `prompt_logprobs` (the prompt is scored, nothing is generated).
In chats: what `messages.Templated` lists. In a message, names of special tokens are always text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pellucid.errors import InputError
from pellucid.request import SamplingParams
from pellucid.server.fields import (
    CHAT_NOOPS,
    CHAT_REFUSED,
    NOOPS,
    NOTHING,
    REFUSED,
    STREAM_OPTIONS_NOOPS,
    TOOLS,
)
from pellucid.server.messages import Message, Templated, with_plain_messages
from pellucid.server.parsing import parse

MAX_PROMPTS: Final = 1024
COMPLETION_MAX_TOKENS: Final = 16
"""OpenAI's default for /v1/completions. A chat goes on until it ends or the context is full."""
MAX_TOP_LOGPROBS: Final = 20
NO_LIMIT: Final = -1
"""As `max_tokens`."""


class StreamOptions(msgspec.Struct, kw_only=True):
    include_usage: bool = False
    """A last chunk with the usage and no choices; in the others, usage is null."""
    continuous_usage_stats: bool = False
    """The usage so far in every chunk."""


class Sampled(msgspec.Struct, kw_only=True):
    """What completions and chats have in common."""

    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    truncate_prompt_tokens: int | None = None
    include_stop_str_in_output: bool = False

    # Names from here on are those of SamplingParams.
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        self.top_k = 0 if self.top_k == -1 else self.top_k
        self.seed = None if self.seed == -1 else self.seed


class CompletionBody(Sampled, kw_only=True):
    prompt: str | list[str | int | list[int]]
    max_tokens: int | None = COMPLETION_MAX_TOKENS
    echo: bool = False
    logprobs: int | None = None
    best_of: int | None = None
    add_special_tokens: bool = True
    parse_special: bool = True

    @property
    def only_scores(self) -> bool:
        """Nothing is to be generated."""
        return self.max_tokens == 0


class ChatBody(Sampled, kw_only=True):
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None

    # The fields of Templated: a struct has one base.
    messages: list[Message]
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] = {}

    @property
    def chat(self) -> Templated:
        return Templated(**{name: getattr(self, name) for name in Templated.__struct_fields__})


class TokenizeBody(msgspec.Struct, kw_only=True):
    """A text; a chat is a `TokenizeChatBody`."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True
    parse_special: bool = True
    return_token_strs: bool = False


class TokenizeChatBody(Templated, kw_only=True):
    model: str | None = None
    return_token_strs: bool = False


class DetokenizeBody(msgspec.Struct, kw_only=True):
    model: str | None = None
    tokens: list[int]


def parse_completion(value: dict[str, Any]) -> CompletionBody:
    body = parse(_with_stream_options(value), CompletionBody, NOOPS, REFUSED)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InputError(
            f"best_of ({body.best_of}) other than n ({body.n or 1}) is not supported; leave it out",
            param="best_of",
        )
    if body.only_scores and not body.echo and body.prompt_logprobs is None:
        raise InputError(
            "max_tokens: 0 scores the prompt, and needs echo: true or prompt_logprobs; "
            "to generate text, it must be at least 1",
            param="max_tokens",
        )
    _check_common(body)
    return body


def parse_chat(value: dict[str, Any]) -> ChatBody:
    body = parse(
        _with_stream_options(with_plain_messages(value)),
        ChatBody,
        CHAT_NOOPS,
        {**CHAT_REFUSED, **TOOLS},
    )
    body.chat.check()
    if body.top_logprobs and not body.logprobs:
        raise InputError("top_logprobs needs logprobs: true", param="top_logprobs")
    if not 0 <= (body.top_logprobs or 0) <= MAX_TOP_LOGPROBS:
        raise InputError(
            f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}, not {body.top_logprobs}",
            param="top_logprobs",
        )
    newer, older = body.max_completion_tokens, body.max_tokens
    if newer is not None and older is not None and newer != older:
        raise InputError(
            f"max_completion_tokens ({newer}) and max_tokens ({older}) differ; send one of them",
            param="max_completion_tokens",
        )
    body.max_tokens = older if newer is None else newer
    _check_common(body)
    return body


def parse_tokenize(value: dict[str, Any]) -> TokenizeBody | TokenizeChatBody:
    if value.get("messages") is None:
        return parse(value, TokenizeBody)
    # What a prompt would be asked to add, the template writes; false asks for nothing.
    refused = {"prompt": (), "add_special_tokens": (False,), "parse_special": (False,)}
    body = parse(with_plain_messages(value), TokenizeChatBody, refused=refused)
    body.check()
    return body


def drop_tools(value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A chat's body without its tools, and the names of what was dropped.

    Only tools that the model may do without: a choice that demands a call stays, to be refused.
    """
    lists = [name for name in ("tools", "functions") if value.get(name)]
    return {name: item for name, item in value.items() if name not in lists}, lists


def sampling_params(
    body: Sampled,
    defaults: Mapping[str, Any] = NOTHING,
    *,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    """The fields of the same name; what is absent takes its default, the model's before ours."""
    values: dict[str, Any] = dict(defaults)
    for name in SamplingParams.__struct_fields__:
        value = getattr(body, name)
        if value is not None:
            values[name] = tuple(value) if isinstance(value, list) else value
    if body.max_tokens == NO_LIMIT:
        del values["max_tokens"]
    elif body.max_tokens == 0 and isinstance(body, CompletionBody):
        values["max_tokens"] = 1  # the engine always makes one; nobody is shown it
    values |= {"logprobs": logprobs, "prompt_logprobs": prompt_logprobs}
    return SamplingParams(**values)


def prompts_of(body: CompletionBody) -> list[str] | list[list[int]]:
    """The prompts, in order: one text, several, one list of token ids, or several."""
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InputError("the prompt is empty: it must have at least one token", param="prompt")
    texts = [item for item in prompt if isinstance(item, str)]
    ids = [item for item in prompt if isinstance(item, int)]
    lists = [item for item in prompt if isinstance(item, list)]
    if len(ids) == len(prompt):
        return [ids]
    if len(prompt) not in (len(texts), len(lists)):
        raise InputError(
            "prompt must be text, token ids, a list of texts or a list of lists of token ids; "
            "not a mixture",
            param="prompt",
        )
    if len(prompt) > MAX_PROMPTS:
        raise InputError(
            f"{len(prompt)} prompts in one call; at most {MAX_PROMPTS}", param="prompt"
        )
    return texts or lists


def _with_stream_options(value: dict[str, Any]) -> dict[str, Any]:
    options = value.get("stream_options")
    if not isinstance(options, dict):
        return value
    parsed = parse(options, StreamOptions, STREAM_OPTIONS_NOOPS, where="stream_options.")
    return {**value, "stream_options": msgspec.to_builtins(parsed)}


def _check_common(body: Sampled) -> None:
    if body.stream_options is not None and not body.stream:
        raise InputError("stream_options needs stream: true", param="stream_options")
    kept = body.truncate_prompt_tokens
    if kept is not None and (kept < -1 or kept == 0):
        raise InputError(
            f"truncate_prompt_tokens must be at least 1, or -1 for what fits, not {kept}",
            param="truncate_prompt_tokens",
        )
