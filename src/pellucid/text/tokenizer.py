"""Text to token ids and back.

    text ──cut at special tokens──▶ plain pieces ──merge──▶ ids ──▶ BOS + ids + EOS
    ids ──bytes of each──▶ one byte string ──UTF-8──▶ text

What differs between formats is a `Codec`: GGUF metadata (`gguf_vocab.py`, by llama.cpp's rules) or
a folder with tokenizer.json (`folder_vocab.py`, through the `tokenizers` library). What is the same
for all of them is here.

A token is bytes, not text: a character may be spread over several tokens, and only together do they
decode. Bytes that are no UTF-8 show as U+FFFD. A `str` with a lone surrogate, on the other hand,
has no UTF-8 form and is refused, here as in the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import InputError
from pellucid.text.codec import Codec
from pellucid.text.folder_vocab import folder_codec
from pellucid.text.gguf_vocab import gguf_codec


class Tokenizer:
    """One model's tokenizer. Immutable, and safe to use from several threads."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.vocab_size = codec.vocab_size
        self.bos_token_id = codec.bos_token_id
        self.eos_token_ids = codec.eos_token_ids
        self.pad_token_id = codec.pad_token_id
        self.unk_token_id = codec.unk_token_id
        self.chat_template = codec.chat_template
        self.roles = codec.roles
        self.parsed_names = codec.parsed_names
        self._pieces = Pieces(codec.piece)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """From the metadata of a GGUF file. Raises `ModelError`."""
        return cls(gguf_codec(metadata))

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """From a folder with tokenizer.json. Raises `ModelError`."""
        return cls(folder_codec(folder))

    def encode(
        self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Token ids of `text`.

        `add_special_tokens` frames them as the model wants it (BOS, EOS). With `parse_special`, the
        name of a special token in the text is that token, as in transformers and llama-server:
        prompts in a chat format or with fill-in-the-middle marks are written so. Without, it is
        text like any other, which is what a stranger's text should be.
        """
        check_text(text)
        ids = self.codec.encode(text, parse_special)
        if add_special_tokens:
            return [*self.codec.prefix, *ids, *self.codec.suffix]
        return ids

    def encode_marked(self, text: str, mark: str) -> list[int]:
        """Token ids of `text` less the character `mark`, which has been put into those names of
        special tokens that are to stay text; the others are tokens. No BOS, no EOS."""
        return self.codec.encode(text, True, mark)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`, taken as the beginning of a text."""
        kept = self.kept(ids, skip_special_tokens)
        if self.codec.whole is not None:
            return self.codec.whole(kept)
        text = b"".join(map(self._pieces.__getitem__, kept)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.codec.leading_space else text

    def kept(self, ids: Iterable[int], skip_special_tokens: bool) -> list[int]:
        """`ids` less the special tokens, if these are to be left out."""
        special = self.codec.special
        return [i for i in ids if i not in special] if skip_special_tokens else list(ids)

    def token_bytes(self, token: int) -> bytes:
        """What the token adds to the text; nothing for an id without text."""
        return self._pieces[token]

    def token_text(self, token: int) -> str:
        """The token by itself, with U+FFFD where its bytes are no whole character."""
        return self._pieces[token].decode("utf-8", "replace")

    def is_special(self, token: int) -> bool:
        return token in self.codec.special


class Pieces(dict[int, bytes]):
    """Bytes of the tokens met so far."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        super().__init__()
        self._piece = piece

    def __missing__(self, token: int) -> bytes:
        data = self._piece(token)
        self[token] = data
        return data


def check_text(text: str) -> None:
    """Raise `InputError` if `text` has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text holds a lone surrogate, {text[error.start]!a}, at character {error.start}: "
            "it is not valid Unicode; remove it"
        ) from None
