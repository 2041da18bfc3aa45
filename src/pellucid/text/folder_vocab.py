"""A vocabulary from a folder in the Hub's layout, through the `tokenizers` library.

    tokenizer.json              vocabulary, merges, how text is cut, how it is decoded
    tokenizer_config.json       bos_token, eos_token, add_bos_token, chat_template, …
    special_tokens_map.json     the same names, in older folders
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

from pellucid.errors import ModelError
from pellucid.text.bytelevel import bytes_of
from pellucid.text.codec import END_OF_TURN, Codec, unique
from pellucid.text.gguf_vocab import byte_of
from pellucid.text.spm import SPACE


def folder_codec(folder: Path) -> Codec:
    library = load(folder / "tokenizer.json")
    config = read_json(folder / "special_tokens_map.json")
    config |= read_json(folder / "tokenizer_config.json")
    generation = read_json(folder / "generation_config.json")
    added = library.get_added_tokens_decoder()
    special = frozenset(token for token, entry in added.items() if entry.special)

    def named(key: str) -> int | None:
        name = config.get(key)
        name = name.get("content") if isinstance(name, dict) else name
        token: int | None = library.token_to_id(name) if isinstance(name, str) else None
        return token

    bos, eos, pad = named("bos_token"), named("eos_token"), named("pad_token")
    if bos is None:
        bos = next(iter(token_ids(generation, "bos_token_id")), None)
    ends = [token for token, entry in added.items() if entry.content in END_OF_TURN]
    prefix, suffix = template_frame(library)
    decoding = decoding_of(library)
    return Codec(
        vocab_size=max([library.get_vocab_size(with_added_tokens=False) - 1, *added]) + 1,
        encode=Encoder(library),
        piece=partial(decoding.piece, library, frozenset(added)),
        whole=decoding.whole and partial(decoding.whole, library),
        leading_space=decoding.leading_space,
        special=special,
        bos_token_id=bos,
        eos_token_ids=unique([eos, *token_ids(generation, "eos_token_id"), *ends]),
        pad_token_id=pad,
        unk_token_id=named("unk_token"),
        prefix=frame(config, "bos", bos, prefix, folder),
        suffix=frame(config, "eos", eos, suffix, folder),
        chat_template=chat_template(folder, config),
    )


def load(path: Path) -> Library:
    if not path.exists():
        raise ModelError(
            f"{path.parent} has no tokenizer.json; save it there with the tokenizer's "
            "save_pretrained, or give prompts as token ids"
        )
    try:
        library = Library.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{path}: {error}; fetch the file again") from error
    library.no_truncation()
    library.no_padding()
    return library


def read_json(path: Path) -> dict[str, Any]:
    """The object in an optional file; an absent file holds nothing."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}); fetch the file again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: holds no JSON object; fetch the file again")
    return value


def token_ids(config: dict[str, Any], key: str) -> list[int]:
    """The ids under `key`: one, several, or none."""
    found = config.get(key)
    ids = found if isinstance(found, list) else [found]
    return [token for token in ids if isinstance(token, int)]


class Encoder:
    """The library's encoder, one text at a time: whether special tokens are parsed is its state."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()

    def __call__(self, text: str, parse_special: bool) -> list[int]:
        with self._lock:
            self._library.encode_special_tokens = not parse_special
            # The batch form lets go of the interpreter lock, and does not track offsets.
            return self._library.encode_batch_fast([text], add_special_tokens=False)[0].ids


def template_frame(library: Library) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What tokenizer.json itself puts before and after a text."""
    bare = library.encode("a", add_special_tokens=False).ids
    framed = library.encode("a", add_special_tokens=True).ids
    extra = len(framed) - len(bare)
    for num_before in range(extra + 1):
        if framed[num_before : num_before + len(bare)] == bare:
            return tuple(framed[:num_before]), tuple(framed[num_before + len(bare) :])
    raise ModelError("tokenizer.json changes a text's tokens when it adds special ones")


def frame(
    config: dict[str, Any],
    which: str,
    token: int | None,
    own: tuple[int, ...],
    folder: Path,
) -> tuple[int, ...]:
    """add_bos_token or add_eos_token decides where it is set, else tokenizer.json does."""
    wanted = config.get(f"add_{which}_token")
    if wanted is None or (wanted and token in own):
        return own
    if not wanted:
        return tuple(kept for kept in own if kept != token)
    if token is None:
        raise ModelError(
            f"{folder / 'tokenizer_config.json'}: add_{which}_token is true, but there is no "
            f"{which}_token; name one"
        )
    return (token, *own) if which == "bos" else (*own, token)


def chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text("utf-8")
    found = config.get("chat_template") or read_json(folder / "chat_template.json").get(
        "chat_template"
    )
    if isinstance(found, list):  # several, each with a name
        named = {entry["name"]: entry["template"] for entry in found}
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
