"""What a request may say: every field is honoured, a documented no-op, or refused by name.

An engine that ignores a field it does not know returns a wrong answer and no error. So a body is
sorted first: `null` counts as absent; a no-op is dropped; a field that would change the answer and
is not implemented is refused unless its value asks for nothing; an unknown one is refused. What
remains must fit a strict struct, and ranges are checked where they are defined, by
`SamplingParams`.

No-ops, accepted because they change nothing about the answer: `user`, `metadata`, `store`,
`service_tier`, `safety_identifier`, `prompt_cache_key`, `prompt_cache_retention` and, in a chat,
`parallel_tool_calls`.

Beyond OpenAI's fields: `top_k`, `min_p`, `repetition_penalty`, `min_tokens`, `ignore_eos`,
`stop_token_ids`, `skip_special_tokens`, `prompt_logprobs`, `return_token_ids`,
`add_special_tokens` (completions: the tokenizer's BOS or EOS around a text prompt) and
`chat_template_kwargs` (chat: variables for the template).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from pellucid.errors import InputError
from pellucid.request import SamplingParams

MAX_PROMPTS: Final = 1024
COMPLETION_MAX_TOKENS: Final = 16
"""OpenAI's default for /v1/completions. A chat goes on until it ends or the context is full."""
MAX_TOP_LOGPROBS: Final = 20

NOOPS: Final = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
CHAT_NOOPS: Final = NOOPS | {"parallel_tool_calls"}

# Not implemented, with the values that ask for nothing.
REFUSED: Final[Mapping[str, tuple[Any, ...]]] = {"suffix": ("",)}
CHAT_REFUSED: Final[Mapping[str, tuple[Any, ...]]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": ([], ["text"]),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "moderation": (),
    "prompt_cache_options": (),
}
MESSAGE_REFUSED: Final[Mapping[str, tuple[Any, ...]]] = {
    "tool_calls": ([],),
    "function_call": (),
    "tool_call_id": (),
    "audio": (),
    "refusal": (),
    "annotations": ([],),
}
STREAM_OPTIONS_REFUSED: Final[Mapping[str, tuple[Any, ...]]] = {"include_obfuscation": (False,)}
ROLES: Final = ("system", "developer", "user", "assistant")


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


class CompletionBody(Sampled, kw_only=True):
    prompt: str | list[str | int | list[int]]
    echo: bool = False
    logprobs: int | None = None
    best_of: int | None = None
    add_special_tokens: bool = True


class Message(msgspec.Struct, kw_only=True):
    role: str
    content: str | list[dict[str, Any]]
    name: str | None = None


class ChatBody(Sampled, kw_only=True):
    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    chat_template_kwargs: dict[str, Any] = {}


class TokenizeBody(msgspec.Struct, kw_only=True):
    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeBody(msgspec.Struct, kw_only=True):
    model: str | None = None
    tokens: list[int]


Body = TypeVar("Body", bound=msgspec.Struct)


def parse(
    value: dict[str, Any],
    kind: type[Body],
    noops: frozenset[str] = frozenset(),
    refused: Mapping[str, tuple[Any, ...]] = {},
    where: str = "",
) -> Body:
    """`value` as a `kind`. `where` is the path of `value` in the body, for messages."""
    known = kind.__struct_fields__
    kept = {}
    for name, item in value.items():
        if item is None or name in noops:
            continue
        path = f"{where}{name}"
        if name in refused:
            if item not in refused[name]:
                raise _not_supported(path, refused[name])
        elif name not in known:
            raise InputError(f"unknown field {path!r}", param=path, code="unknown_field")
        else:
            kept[name] = item
    try:
        return msgspec.convert(kept, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), where) from error


def parse_completion(value: dict[str, Any]) -> CompletionBody:
    body = parse(_with_stream_options(value), CompletionBody, NOOPS, REFUSED)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InputError(
            f"best_of ({body.best_of}) other than n ({body.n or 1}) is not supported; leave it out",
            param="best_of",
        )
    _check_stream(body)
    return body


def parse_chat(value: dict[str, Any]) -> ChatBody:
    messages = value.get("messages")
    if isinstance(messages, list):
        value = {**value, "messages": [_plain_message(m, i) for i, m in enumerate(messages)]}
    body = parse(_with_stream_options(value), ChatBody, CHAT_NOOPS, CHAT_REFUSED)
    if not body.messages:
        raise InputError("messages is empty: a chat needs at least one", param="messages")
    if body.top_logprobs is not None and not body.logprobs:
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
    _check_stream(body)
    return body


def sampling_params(
    body: Sampled, *, logprobs: int | None, prompt_logprobs: int | None
) -> SamplingParams:
    """The fields of the same name; what is absent keeps its default."""
    values: dict[str, Any] = {}
    for name in SamplingParams.__struct_fields__:
        value = getattr(body, name)
        if value is not None:
            values[name] = tuple(value) if isinstance(value, list) else value
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


def _plain_message(message: Any, index: int) -> Any:
    """One message with its content as plain text."""
    if not isinstance(message, dict):
        return message  # refused for its type, with its path
    where = f"messages[{index}]."
    parsed = parse(message, Message, refused=MESSAGE_REFUSED, where=where)
    if parsed.role not in ROLES:
        raise InputError(
            f"{where}role must be one of {', '.join(ROLES)}, not {parsed.role!r}",
            param=f"{where}role",
        )
    if isinstance(parsed.content, list):
        parts = parsed.content
        texts = [_text_of(part, f"{where}content[{i}]") for i, part in enumerate(parts)]
        parsed.content = "\n".join(texts)
    return msgspec.to_builtins(parsed)


def _text_of(part: dict[str, Any], where: str) -> str:
    kind, text = part.get("type"), part.get("text")
    if kind != "text":
        raise InputError(
            f"{where}.type {kind!r} is not supported; only text is", param=f"{where}.type"
        )
    if not isinstance(text, str):
        raise InputError(f"{where}.text must be a string", param=f"{where}.text")
    for name in part:
        if name not in ("type", "text"):
            raise InputError(f"unknown field '{where}.{name}'", param=f"{where}.{name}")
    return text


def _with_stream_options(value: dict[str, Any]) -> dict[str, Any]:
    options = value.get("stream_options")
    if not isinstance(options, dict):
        return value
    parsed = parse(options, StreamOptions, refused=STREAM_OPTIONS_REFUSED, where="stream_options.")
    return {**value, "stream_options": msgspec.to_builtins(parsed)}


def _check_stream(body: Sampled) -> None:
    if body.stream_options is not None and not body.stream:
        raise InputError("stream_options needs stream: true", param="stream_options")


def _not_supported(path: str, harmless: tuple[Any, ...]) -> InputError:
    words = " or ".join(msgspec.json.encode(value).decode() for value in harmless)
    remedy = f"leave it out, or send {words}" if words else "leave it out"
    return InputError(
        f"{path} would change the answer and is not supported; {remedy}",
        param=path,
        code="unsupported_field",
    )


_PATH = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")


def _wrong_type(message: str, where: str) -> InputError:
    """msgspec's message with the field in front: 'n: expected `int`, got `str`'."""
    match = _PATH.fullmatch(message)
    assert match
    what, path = match["what"], where + (match["path"] or "")
    if missing := _MISSING.fullmatch(what):
        path = ".".join(filter(None, [path.rstrip("."), missing[1]]))
        return InputError(f"{path} is missing", param=path, code="missing_field")
    what = what.replace(" | null", "")
    key = "a key: " if match["key"] else ""
    return InputError(f"{path}: {key}{what[0].lower()}{what[1:]}", param=path, code="wrong_type")
