"""Conversations to prompts, by the chat template that came with the model.

    messages ──template──▶ one text ──special tokens parsed──▶ ids

A template is a program from the model's files, so it runs in Jinja's sandbox: it reaches no
attributes beginning with an underscore, changes nothing it is given, loops over no range longer
than 100,000, and writes no more than `MAX_CHARS`. The functions it may call are those that the
`transformers` library gives it.

**Text in a message is text.** A user who writes `<|im_start|>system` in a message must not open a
system turn, as happens where the rendered prompt is simply encoded with special tokens parsed. Here
only those that the *template* wrote are special. Before rendering, a character that nobody uses is
put inside each name of a special token in what the template is given; it is taken out again when
the rendered text has been cut at the special tokens. Nothing but the name itself differs from what
`transformers` or llama.cpp make of the messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pellucid.errors import InputError, ModelError, one_line
from pellucid.text.specials import SpecialTokens
from pellucid.text.tokenizer import Tokenizer, check_text

MAX_CHARS = 1 << 24
"""Longest text that a template may write; beyond any context, and beyond the largest request."""
_OURS = frozenset({"messages", "bos_token", "eos_token", "raise_exception", "strftime_now"})

Message = Mapping[str, Any]


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    /,
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    **template_kwargs: Any,
) -> list[int]:
    """Token ids of the prompt that `messages` make; what BOS there is, the template writes.

    `continue_final_message` leaves the last message open: the prompt ends with its content, and the
    answer goes on from there (a prefill).
    """
    plain = check_messages(messages)
    template_kwargs["add_generation_prompt"] = add_generation_prompt
    if not isinstance(continue_final_message, bool):
        raise InputError("continue_final_message must be true or false")
    end = mark_end(tokenizer, plain) if continue_final_message else ""
    names = special_names(tokenizer)
    texts = list(texts_of([plain, template_kwargs]))
    if not any(name in text for text in texts for name, _ in names.present(text)):
        rendered = text_before(end, render(tokenizer, plain, template_kwargs))
        return tokenizer.encode(rendered, add_special_tokens=False)

    mark = unused_character("".join([*texts, tokenizer.chat_template or ""]))
    change = partial(shield, names, mark)
    rendered = render(tokenizer, each_text(plain, change), each_text(template_kwargs, change))
    rendered = rendered.replace(json.dumps(mark)[1:-1], mark)  # tojson(ensure_ascii=True) wrote it
    return tokenizer.encode_marked(text_before(end, rendered), mark)


def mark_end(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> str:
    """Put a character that nobody uses, and a space, behind the last message; that character."""
    end = unused_character("".join([*texts_of(messages), tokenizer.chat_template or ""]))
    messages[-1]["content"] += f"{end} "
    return end


def text_before(end: str, rendered: str) -> str:
    """`rendered` up to the character `end`, if there is one to look for.

    A template that trims messages has taken the space behind `end` away; then spaces before it
    would have been trimmed too. transformers finds the place in the same way.
    """
    if not end:
        return rendered
    text, found, rest = rendered.rpartition(end)
    if not found:
        raise InputError(
            "continue_final_message: the chat template does not write the last message's content, "
            "so there is nothing to go on from",
            param="continue_final_message",
        )
    return text if rest.startswith(" ") else text.rstrip()


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    /,
    *,
    add_generation_prompt: bool = True,
    **template_kwargs: Any,
) -> str:
    """The prompt as text. To compute with it, `encode_chat`: in a text one cannot see which special
    tokens the template wrote and which stood in a message."""
    template_kwargs["add_generation_prompt"] = add_generation_prompt
    return render(tokenizer, check_messages(messages), template_kwargs)


def check_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with their content as one text each. Raises `InputError`."""
    if not messages:
        raise InputError("messages is empty: a chat needs at least one", param="messages")
    return [_check_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _check_message(message: Message, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError(
            f"{where} must be an object with role and content, not {message!r}", param=where
        )
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise InputError(f"{where}.role must be a word, not {role!r}", param=f"{where}.role")
    checked = {**message, "content": _content(message.get("content"), f"{where}.content")}
    for text in texts_of([checked]):
        check_text(text)
    return checked


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise InputError(f"{where} must be text or a list of text parts", param=where)
    return "\n".join(_part(part, f"{where}[{i}]") for i, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and part.keys() == {"type", "text"} and part["type"] == "text":
        text = part["text"]
        if isinstance(text, str):
            return text
    raise InputError(
        f'{where} must be {{"type": "text", "text": …}}; other content is not supported',
        param=where,
    )


def texts_of(value: Any) -> Iterator[str]:
    """Every text in `value`, wherever it is nested; keys are texts too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_of(key)
            yield from texts_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_of(item)


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with each text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {each_text(key, change): each_text(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [each_text(item, change) for item in value]
    return value


@lru_cache(maxsize=8)
def special_names(tokenizer: Tokenizer) -> SpecialTokens:
    """Names that would be tokens if they were parsed. One character cannot be cut in two."""
    names = tokenizer.parsed_names
    return SpecialTokens({name: token for name, token in names.items() if len(name) > 1})


def shield(names: SpecialTokens, mark: str, text: str) -> str:
    """`text` with `mark` inside every name of a special token, so that none is left in it."""
    for name, _ in names.present(text):
        while name in text:  # again, for names that overlap themselves
            text = text.replace(name, name[0] + mark + name[1:])
    return text


def unused_character(text: str) -> str:
    """A private-use character that is not in `text`."""
    used = set(text)
    return next(char for char in map(chr, range(0xF0000, 0xFFFFE)) if char not in used)


def render(tokenizer: Tokenizer, messages: list[dict[str, Any]], options: dict[str, Any]) -> str:
    """What the template makes of checked messages. `options` are more variables for it."""
    if tokenizer.chat_template is None:
        raise InputError(
            "this model has no chat template: it is no chat model; use completions",
            code="no_chat_template",
        )
    roles = tokenizer.roles  # one that the model does not have is left undefined
    for name in options:
        if name in _OURS or name in roles:
            raise InputError(f"the template variable {name!r} cannot be set", param=name)
    if not isinstance(options["add_generation_prompt"], bool):
        raise InputError("add_generation_prompt must be true or false")
    variables = {"tools": None, "documents": None, **roles, **options}
    template = compiled(tokenizer.chat_template)
    try:
        return _bounded(template.generate(messages=messages, **variables))
    except InputError:
        raise
    except Refusal as error:
        raise InputError(f"the chat template says: {one_line(error)}", param="messages") from None
    except Exception as error:  # a template can fail in any way a program can
        raise InputError(
            "the chat template failed on these messages: "
            f"{one_line(error) or type(error).__name__}",
            param="messages",
        ) from error


def _bounded(pieces: Iterator[str]) -> str:
    kept: list[str] = []
    length = 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length > MAX_CHARS:
            raise InputError(
                f"the chat template writes more than {MAX_CHARS} characters; shorten the messages",
                param="messages",
            )
    return "".join(kept)


class Refusal(TemplateError):
    """The template called raise_exception."""


def _refuse(message: str) -> NoReturn:
    raise Refusal(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # As transformers has it. Jinja's own escapes <, > and & for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class Generation(Extension):
    """`{% generation %}` marks what the model itself said, for training; here it is only text."""

    tags = {"generation"}  # noqa: RUF012 (so declared in the base class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)
def compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        reason = one_line(f"line {error.lineno}: {error.message}")
    except Exception as error:  # nested too deeply, for example
        reason = one_line(error) or type(error).__name__
    raise ModelError(
        f"the model's chat template is no valid Jinja, {reason}; use completions, or another file "
        "of the model"
    )
