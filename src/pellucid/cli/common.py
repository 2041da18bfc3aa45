"""What verbs share: flags made from the record they fill, lists of lengths, JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from typing import Any, TextIO

from pellucid.cli.parser import Parser
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.features import FEATURES

_FIELDS = {
    "model": ("model", "revision"),
    "machine": ("device", "dtype", "threads", "context_length", "memory"),
}
"""Fields of `EngineConfig` that every help shows, by group; the others are folded."""


def add_config_flags(parser: Parser) -> None:
    """One flag per field of `EngineConfig`, in groups."""
    groups: dict[str, Any] = {title: parser.add_argument_group(title) for title in _FIELDS}
    switches = parser.add_folded_group(
        "switches", "one for each optimization; pellucid features explains them"
    )
    rest = parser.add_folded_group("cache, scheduling and loading")
    homes = {name: groups[title] for title, names in _FIELDS.items() for name in names}
    homes |= {feature.key: switches for feature in FEATURES}
    for spec in dataclasses.fields(EngineConfig):
        homes.get(spec.name, rest).add_argument(
            flag_of(spec.name),
            default=spec.default,
            type=type(spec.default),
            choices=spec.metadata["choices"] or None,
            metavar=None if spec.metadata["choices"] else spec.name.upper(),
            help=spec.metadata["doc"] + default_text(spec.default),
        )


def config_from(args: argparse.Namespace) -> EngineConfig:
    """The configuration that the flags describe."""
    names = [spec.name for spec in dataclasses.fields(EngineConfig)]
    return EngineConfig(**{name: getattr(args, name) for name in names})


def parse_lengths(text: str) -> tuple[int, ...]:
    """`64,512,2k` as numbers of tokens; k is 1,024."""
    parts = [part.strip().lower() for part in text.split(",")]
    if not all(re.fullmatch(r"\d+k?", part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers such as 64,512,2k")
    return tuple(int(p.removesuffix("k")) * (1024 if p.endswith("k") else 1) for p in parts)


def write_json(record: Any, path: str) -> None:
    """Write `record` as JSON to a file, or to stdout if `path` is `-`."""
    text = json.dumps(record, indent=2) + "\n"
    with open_out(path) as file:
        file.write(text)


def open_out(path: str) -> Any:
    """A text file to write to as a context manager; `-` is stdout, which stays open."""
    if path == "-":
        return _Stdout()
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


class _Stdout:
    def __enter__(self) -> TextIO:
        return sys.stdout

    def __exit__(self, *error: object) -> None:
        sys.stdout.flush()


def flag_of(name: str) -> str:
    """`top_k` as people type it: `--top-k`."""
    return "--" + name.replace("_", "-")


def default_text(value: Any) -> str:
    """The end of an option's help."""
    match value:
        case bool():
            return f" (default: {'on' if value else 'off'})"
        case int() | float():
            return f" (default: {value:g})"
        case str():
            return f" (default: {value})"
    return ""  # nothing, or an empty list: the text says what that means
