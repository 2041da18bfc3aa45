"""Tokens that a folder names outside tokenizer.json, and what its tokens are called.

Fine-tuning adds tokens, and not every tool writes them into tokenizer.json: some are only in
`added_tokens_decoder` of tokenizer_config.json, in added_tokens.json, or named as an
`additional_special_tokens` somewhere. transformers adds all of these when it loads the folder, so
the model was trained with them. The rules here are those of its version 5: tokenizer_config.json
with an `added_tokens_decoder` is complete; without one, the older files are read too. A token that
the vocabulary has keeps its id, a new one takes the next.

`add_bos_token` and `add_eos_token` are not read, as in transformers 5: what a text begins and ends
with is in tokenizer.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from pellucid.errors import ModelError, one_line
from pellucid.text.files import read_optional

OLDER, NEWER = "additional_special_tokens", "extra_special_tokens"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True, slots=True)
class Declared:
    """What the files beside tokenizer.json say about tokens."""

    config: dict[str, Any]
    """tokenizer_config.json."""
    roles: dict[str, Any]
    """bos_token, eos_token, … → text; additional_special_tokens → texts."""
    entries: list[AddedToken]
    """Tokens with their properties, in the order of their ids."""
    names: list[str]
    """Special tokens of which no file says more than the name."""

    @classmethod
    def read(cls, folder: Path) -> Declared:
        """Raises `ModelError` for files that make no sense."""
        config = read_optional(path := folder / "tokenizer_config.json")
        older = read_optional(folder / "special_tokens_map.json")
        decoder = config.get("added_tokens_decoder")
        more: dict[str, Any] = {}
        special = {text for _, text in named(config)}
        if decoder is None:
            lists = {key: config[key] for key in (OLDER, NEWER) if config.get(key)}
            config |= older | lists
            special |= {text for role, text in named(config) if role != OLDER}
            more = read_optional(path := folder / "added_tokens.json")
        try:
            entries = [
                *(added(entry) for _, entry in sorted((decoder or {}).items(), key=by_id)),
                *(plain(text, text in special) for text, _ in sorted(more.items(), key=by_value)),
            ]
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelError(
                f"{path}: its added tokens make no sense ({one_line(error)}); mend them"
            ) from error
        roles = roles_of(older | config)
        return cls(config, roles, entries, [text for _, text in named(config)])

    def missing_from(self, library: Library) -> list[AddedToken]:
        """The tokens that `library` does not have as they are declared here."""
        known = {entry.content: entry for entry in library.get_added_tokens_decoder().values()}
        found = {entry.content: entry for entry in self.entries}
        for name in self.names:
            if name not in known and name not in found:
                found[name] = AddedToken(name, special=True, normalized=False)
        for text in self.roles.values():  # what has a role is special, whatever its entry says
            entry = found.get(text) or known.get(text) if isinstance(text, str) else None
            if entry is not None and not entry.special:
                found[text] = as_special(entry)
        same = {text: repr(entry) for text, entry in known.items()}
        return [entry for text, entry in found.items() if same.get(text) != repr(entry)]


def named(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(role, text) of every token that has a role, or stands in a list of special ones."""
    for key, value in config.items():
        if key.endswith("_token") and (text := text_of(value)):
            yield key, text
    found = config.get(NEWER) or config.get(OLDER)
    if isinstance(found, dict):
        yield from ((role, text) for role, item in found.items() if (text := text_of(item)))
    elif isinstance(found, list):
        yield from ((OLDER, text) for item in found if (text := text_of(item)))


def roles_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a chat template knows tokens by."""
    roles: dict[str, Any] = {}
    for role, text in named(config):
        if role == OLDER:
            roles.setdefault(OLDER, []).append(text)
        else:
            roles[role] = text
    return roles


def text_of(value: Any) -> str | None:
    """The text of a token that is written by itself or with its properties."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def added(entry: dict[str, Any]) -> AddedToken:
    flags = {name: entry[name] for name in FLAGS if name in entry}
    return AddedToken(entry.get("content"), special=entry.get("special", False), **flags)


def as_special(entry: AddedToken) -> AddedToken:
    flags = {name: getattr(entry, name) for name in FLAGS}
    return AddedToken(entry.content, special=True, **flags)


def plain(text: str, special: bool) -> AddedToken:
    return AddedToken(text, special=special, normalized=not special)


def by_id(item: tuple[str, Any]) -> int:
    return int(item[0])


def by_value(item: tuple[str, Any]) -> int:
    return int(item[1])
