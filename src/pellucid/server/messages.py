"""Messages of a chat: the shapes in which clients send them, and the prompt that they make.

Clients differ in small things: a `type` beside the role, `cache_control` in a text part, `null` as
the content of an assistant that only called tools, reasoning under either of two names. What says
nothing is dropped; reasoning goes to the template, under both names, and the template decides.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pellucid.errors import InputError
from pellucid.server.fields import MESSAGE_REFUSED, PART_NOOPS
from pellucid.server.parsing import parse
from pellucid.text.chat import encode_chat
from pellucid.text.tokenizer import Tokenizer

ROLES: Final = ("system", "developer", "user", "assistant")


class Message(msgspec.Struct, kw_only=True):
    role: str
    content: str | list[dict[str, Any]]
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    def for_template(self) -> dict[str, Any]:
        """As chat templates know messages."""
        # "developer" is OpenAI's newer word for "system"; templates know the older one.
        role = "system" if self.role == "developer" else self.role
        fields = {
            "role": role,
            "content": self.content,
            "name": self.name,
            "reasoning_content": self.reasoning_content or self.reasoning,
            "reasoning": self.reasoning or self.reasoning_content,
        }
        return {key: value for key, value in fields.items() if value is not None}


class Templated(msgspec.Struct, kw_only=True):
    """What a chat template is given."""

    messages: list[Message]
    add_generation_prompt: bool | None = None
    """Write what comes before an answer; None: unless the last message is continued."""
    continue_final_message: bool = False
    """The answer goes on from the last message instead of following it."""
    reasoning_effort: str | None = None
    """A variable for the template, in its own words; one that does not read it is not changed."""
    chat_template_kwargs: dict[str, Any] = {}
    """More variables for the template."""

    def check(self) -> None:
        if not self.messages:
            raise InputError("messages is empty: a chat needs at least one", param="messages")
        if self.add_generation_prompt and self.continue_final_message:
            raise InputError(
                "continue_final_message and add_generation_prompt exclude each other; send one",
                param="continue_final_message",
            )

    @property
    def num_chars(self) -> int:
        return sum(len(m.content) + len(m.reasoning_content or "") for m in self.messages)

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        """Token ids of the prompt."""
        fields: dict[str, Any] = {
            "add_generation_prompt": self.add_generation_prompt,
            "continue_final_message": self.continue_final_message or None,
            "reasoning_effort": self.reasoning_effort,
        }
        options = dict(self.chat_template_kwargs)
        for name, value in fields.items():
            if value is None:
                continue
            if options.get(name, value) != value:
                raise InputError(
                    f"{name} and chat_template_kwargs.{name} differ; send one of them", param=name
                )
            options[name] = value
        options.setdefault("add_generation_prompt", not options.get("continue_final_message"))
        return encode_chat(tokenizer, [m.for_template() for m in self.messages], **options)


def with_plain_messages(value: dict[str, Any]) -> dict[str, Any]:
    """A body, with the content of each of its messages as one text."""
    messages = value.get("messages")
    if not isinstance(messages, list):
        return value  # refused for its type, if it is there
    return {**value, "messages": [plain_message(m, i) for i, m in enumerate(messages)]}


def plain_message(message: Any, index: int) -> Any:
    """One message with its content as plain text."""
    if not isinstance(message, dict):
        return message  # refused for its type, with its path
    where = f"messages[{index}]."
    if message.get("role") == "assistant" and message.get("content") is None:
        message = {**message, "content": ""}
    parsed = parse(message, Message, PART_NOOPS, MESSAGE_REFUSED, where)
    if parsed.role not in ROLES:
        raise InputError(
            f"{where}role must be one of {', '.join(ROLES)}, not {parsed.role!r}",
            param=f"{where}role",
        )
    if isinstance(parsed.content, list):
        parts = parsed.content
        texts = [text_of(part, f"{where}content[{i}]") for i, part in enumerate(parts)]
        parsed.content = "\n".join(texts)
    return msgspec.to_builtins(parsed)


def text_of(part: dict[str, Any], where: str) -> str:
    kind, text = part.get("type"), part.get("text")
    if kind != "text":
        raise InputError(
            f"{where}.type {kind!r} is not supported; only text is", param=f"{where}.type"
        )
    if not isinstance(text, str):
        raise InputError(f"{where}.text must be a string", param=f"{where}.text")
    for name in part:
        if name not in ("type", "text") and name not in PART_NOOPS:
            raise InputError(f"unknown field '{where}.{name}'", param=f"{where}.{name}")
    return text
