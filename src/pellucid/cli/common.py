"""Flags made from the records they fill, so that each choice is documented in one place."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import json
import re
import sys
import textwrap
import types
import typing
from typing import Any, TextIO

import msgspec

from pellucid.cli.parser import Parser
from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.features import FEATURES
from pellucid.request import SamplingParams

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
            _flag(spec.name),
            default=spec.default,
            type=type(spec.default),
            choices=spec.metadata["choices"] or None,
            metavar=None if spec.metadata["choices"] else spec.name.upper(),
            help=spec.metadata["doc"] + _default(spec.default),
        )


def config_from(args: argparse.Namespace) -> EngineConfig:
    """The configuration that the flags describe."""
    names = [spec.name for spec in dataclasses.fields(EngineConfig)]
    return EngineConfig(**{name: getattr(args, name) for name in names})


UNLIMITED = -1
"""As `--max-tokens`, what clients of other servers write: until the context is full."""


def add_sampling_flags(parser: Parser, **defaults: Any) -> None:
    """One flag per field of `SamplingParams`; `defaults` are what this verb has instead of the
    record's, and are shown in the help."""
    group = parser.add_argument_group(
        "sampling", "what the model's authors recommend comes before the defaults below"
    )
    docs = field_docs(SamplingParams)
    docs["max_tokens"] = f"new tokens at most; {UNLIMITED}: until the context is full"
    for field in msgspec.structs.fields(SamplingParams):
        options: dict[str, Any] = {"default": None, "dest": f"sampling_{field.name}"}
        default = defaults.get(field.name, field.default)
        options["help"] = docs[field.name] + _default(default)
        match _scalar(field.type):
            case "bool":
                options["action"] = argparse.BooleanOptionalAction
            case "strings":
                options.update(action="append", metavar="TEXT")
            case "ints":
                options.update(nargs="+", type=int, metavar="ID")
            case "mapping":
                options.update(type=_parse_bias, metavar='{"ID": BIAS}')
            case "int":
                options.update(type=int, metavar="N")
            case _:
                options.update(type=float, metavar="X")
        group.add_argument(_flag(field.name), **options)


def sampling_from(args: argparse.Namespace, **defaults: Any) -> SamplingParams:
    """The sampling parameters that the flags describe; `defaults` where no flag is given."""
    values = defaults | given_sampling(args)
    if values.get("max_tokens") == UNLIMITED:
        values["max_tokens"] = None
    return SamplingParams(**values)


def given_sampling(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of `SamplingParams` that stand on the command line."""
    names = [field.name for field in msgspec.structs.fields(SamplingParams)]
    values = {name: getattr(args, f"sampling_{name}") for name in names}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None
    }


def field_docs(record: type) -> dict[str, str]:
    """What a class says about its fields: the string below each, read from its source, so that
    the record itself is where a field is documented."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, below in itertools.pairwise(body.body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = _as_help(inspect.cleandoc(text))
    return docs


def _as_help(text: str) -> str:
    """A sentence as the help of an option, whose None is not to give it."""
    return (text[0].lower() + text[1:]).removesuffix(".").replace("None:", "not given:")


def _default(value: Any) -> str:
    match value:
        case bool():
            return f" (default: {'on' if value else 'off'})"
        case int() | float():
            return f" (default: {value:g})"
        case str():
            return f" (default: {value})"
    return ""  # nothing, or an empty list: the text says what that means


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


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _scalar(kind: Any) -> str:
    """What sort of flag a field of this type needs."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(arg for arg in typing.get_args(kind) if arg is not types.NoneType)
    if typing.get_origin(kind) is dict:
        return "mapping"
    if typing.get_origin(kind) is tuple:
        return "strings" if typing.get_args(kind)[0] is str else "ints"
    return str(kind.__name__)


def _parse_bias(text: str) -> dict[int, float]:
    try:
        return msgspec.json.decode(text, type=dict[int, float], strict=False)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise argparse.ArgumentTypeError(f'not of the form {{"42": 1.5}}: {error}') from error
