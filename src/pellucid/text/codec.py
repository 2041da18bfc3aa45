"""What a tokenizer must know about one vocabulary, whatever file it came from: plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

END_OF_TURN = frozenset(
    {
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<end_of_turn>",
    }
)
"""Tokens whose name says that an answer ends, as llama.cpp has them: a GGUF file has room for one
end-of-sequence id, and chat models often have two."""


class Encode(Protocol):
    """From a text to its ids, without BOS and EOS."""

    def __call__(self, text: str, parse_special: bool, mark: str = "") -> list[int]:
        """`mark` is a character put into names that are to stay text: it is taken out again once
        the text has been cut at the names of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How one vocabulary is written, read and framed."""

    vocab_size: int
    encode: Encode
    parsed_names: Mapping[str, int]
    """Names that are tokens only where special tokens are parsed."""
    piece: Callable[[int], bytes]
    """Bytes of a token; none for an id that stands for nothing."""
    whole: Callable[[list[int]], str] | None = None
    """ids → text, for the few vocabularies where the text is not the sum of the pieces."""
    leading_space: bool = False
    """The encoder puts a space before a text, so the decoder takes one away."""
    special: frozenset[int]
    """Tokens that stand for no text."""
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    unk_token_id: int | None = None
    prefix: tuple[int, ...] = ()
    """What add_special_tokens puts before the ids, usually BOS."""
    suffix: tuple[int, ...] = ()
    chat_template: str | None = None
    roles: Mapping[str, Any] = field(default_factory=dict)
    """What a chat template knows tokens by: bos_token, eos_token, … → text."""


def unique(ids: Sequence[int | None]) -> tuple[int, ...]:
    """`ids` without None and repetitions, in order."""
    return tuple(dict.fromkeys(token for token in ids if token is not None))
