"""A vocabulary from a folder in the Hub's layout, through the `tokenizers` library.

    tokenizer.json              vocabulary, merges, how text is cut, framed (BOS) and decoded
    tokenizer_config.json       bos_token, eos_token, more added tokens, chat_template, …
    special_tokens_map.json     the same names, in older folders; added_tokens.json, their ids
    generation_config.json      eos_token_id, often more than one
    chat_template.jinja         the template, in newer folders

Encoding is the library's. Decoding too is defined by tokenizer.json, as a chain of steps, but to
stream an answer we need the bytes of each token. Two chains cover nearly every model: byte-level,
and SentencePiece's (▁ is a space, `<0x0A>` a byte, perhaps one space off the front). For any other
the library decodes all ids so far, at every step.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Library

from pellucid.errors import ModelError, one_line
from pellucid.text.added import Declared
from pellucid.text.bytelevel import bytes_of
from pellucid.text.codec import END_OF_TURN, Codec, unique
from pellucid.text.files import read_optional, read_text
from pellucid.text.gguf_vocab import byte_of
from pellucid.text.spm import SPACE


def folder_codec(folder: Path) -> Codec:
    library = load(folder / "tokenizer.json")
    declared = Declared.read(folder)
    try:
        library.add_tokens(declared.missing_from(library))
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"{folder}: its added tokens make no sense ({one_line(error)}); mend them"
        ) from error
    generation = read_optional(folder / "generation_config.json")
    added = library.get_added_tokens_decoder()
    special = frozenset(token for token, entry in added.items() if entry.special)

    def named(role: str) -> int | None:
        token: int | None = library.token_to_id(declared.roles.get(role, ""))
        return token

    bos = named("bos_token")
    if bos is None:
        bos = next(iter(token_ids(generation, "bos_token_id")), None)
    ends = [token for token, entry in added.items() if entry.content in END_OF_TURN]
    prefix, suffix = template_frame(library)
    decoding = decoding_of(library)
    return Codec(
        vocab_size=max([library.get_vocab_size(with_added_tokens=False) - 1, *added]) + 1,
        encode=Encoder(library),
        parsed_names={entry.content: token for token, entry in added.items() if entry.special},
        piece=partial(decoding.piece, library, frozenset(added)),
        whole=decoding.whole and partial(decoding.whole, library),
        leading_space=decoding.leading_space,
        special=special,
        bos_token_id=bos,
        eos_token_ids=unique([named("eos_token"), *token_ids(generation, "eos_token_id"), *ends]),
        pad_token_id=named("pad_token"),
        unk_token_id=named("unk_token"),
        prefix=prefix,
        suffix=suffix,
        chat_template=chat_template(folder, declared.config),
        roles=declared.roles,
    )


def load(path: Path) -> Library:
    if not path.exists():
        raise ModelError(
            f"{path.parent} has no tokenizer.json; save it there with the tokenizer's "
            "save_pretrained, or give prompts as token ids"
        )
    try:
        library = Library.from_file(str(path))
    except BaseException as error:
        # The library raises plain Exception, and a panic of its Rust code is not even that.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{path}: {one_line(error)}; fetch the file again") from error
    library.no_truncation()
    library.no_padding()
    return library


def token_ids(config: dict[str, Any], key: str) -> list[int]:
    """The ids under `key`: one, several, or none."""
    found = config.get(key)
    ids = found if isinstance(found, list) else [found]
    return [token for token in ids if type(token) is int and token >= 0]


class Encoder:
    """The library's encoder, one text at a time: whether special tokens are parsed is its state."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()

    def __call__(self, text: str, parse_special: bool, mark: str = "") -> list[int]:
        with self._lock:
            if mark:
                return self._without(mark, text)
            self._library.encode_special_tokens = not parse_special
            # The batch form lets go of the interpreter lock, and does not track offsets.
            return self._library.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def _without(self, mark: str, text: str) -> list[int]:
        """The ids of `text`, special tokens parsed, less those that stand for `mark`.

        The text stays whole, so that what depends on its neighbours (a space at the beginning,
        spaces that a special token swallows) is as it would be.
        """
        self._library.encode_special_tokens = False
        found = self._library.encode(text, add_special_tokens=False)
        self._library.encode_special_tokens = True
        ids: list[int] = []
        for token, (start, end) in zip(found.ids, found.offsets, strict=True):
            piece = text[start:end]
            if mark not in piece:
                ids.append(token)
            elif rest := piece.replace(mark, ""):  # one token for the mark and something else
                ids += self._library.encode(rest, add_special_tokens=False).ids
        return ids


def template_frame(library: Library) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What tokenizer.json itself puts before and after a text."""
    bare = library.encode("a", add_special_tokens=False).ids
    framed = library.encode("a", add_special_tokens=True).ids
    extra = len(framed) - len(bare)
    for num_before in range(extra + 1):
        if framed[num_before : num_before + len(bare)] == bare:
            return tuple(framed[:num_before]), tuple(framed[num_before + len(bare) :])
    raise ModelError("tokenizer.json changes a text's tokens when it adds special ones")


def chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return read_text(path)
    legacy = folder / "chat_template.json"
    found = config.get("chat_template") or read_optional(legacy).get("chat_template")
    if isinstance(found, list):  # several, each with a name
        named = {
            entry["name"]: entry["template"]
            for entry in found
            if isinstance(entry, dict)
            and isinstance(entry.get("name"), str)
            and "template" in entry
        }
        found = named.get("default", next(iter(named.values()), None))
    return found if isinstance(found, str) and found else None


@dataclass(frozen=True, slots=True)
class Decoding:
    """One chain of decoding steps."""

    piece: Callable[[Library, frozenset[int], int], bytes]
    """(library, added tokens, token) → its bytes."""
    whole: Callable[[Library, list[int]], str] | None = None
    leading_space: bool = False


def byte_level_piece(library: Library, added: frozenset[int], token: int) -> bytes:
    text = text_of(library, token)
    return text.encode() if token in added else bytes_of(text)


def sentencepiece_piece(library: Library, added: frozenset[int], token: int) -> bytes:
    text = text_of(library, token)
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return byte_of(text)
    return text.replace(SPACE, " ").encode()


def other_piece(library: Library, added: frozenset[int], token: int) -> bytes:
    return decode_whole(library, [token]).encode()


def decode_whole(library: Library, ids: list[int]) -> str:
    known = [token for token in ids if token >= 0]
    text: str = library.decode(known, skip_special_tokens=False)
    return text


def text_of(library: Library, token: int) -> str:
    """A token as tokenizer.json writes it; nothing for an id that it does not have."""
    return (library.id_to_token(token) if token >= 0 else None) or ""


_SPM_STEPS: tuple[dict[str, Any], ...] = (
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
)
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def decoding_of(library: Library) -> Decoding:
    """The decoding that `library` describes, as one of ours where we have it."""
    if library.decoder is None:
        return Decoding(other_piece, whole=decode_whole)
    chain = json.loads(library.decoder.__getstate__())
    steps = chain["decoders"] if chain["type"] == "Sequence" else [chain]
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return Decoding(byte_level_piece)
    if kinds == ["Metaspace"] and steps[0]["replacement"] == SPACE:
        space = steps[0].get("prepend_scheme", "always") != "never"
        return Decoding(sentencepiece_piece, leading_space=space)
    rest = [step for step in steps if step != _STRIP]
    if _SPM_STEPS[0] in rest and all(step in _SPM_STEPS for step in rest):
        return Decoding(sentencepiece_piece, leading_space=_STRIP in steps)
    return Decoding(other_piece, whole=decode_whole)
