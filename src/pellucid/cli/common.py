"""Flags made from the records they fill, so that each choice is documented in one place."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import types
import typing
from typing import Any, TextIO

import msgspec

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.request import SamplingParams

Verbs = Any
"""What argparse's `add_subparsers` returns; its class is private."""


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """One flag per field of `EngineConfig`."""
    group = parser.add_argument_group("engine")
    for spec in dataclasses.fields(EngineConfig):
        group.add_argument(
            _flag(spec.name),
            default=spec.default,
            type=type(spec.default),
            choices=spec.metadata["choices"] or None,
            metavar=None if spec.metadata["choices"] else spec.name.upper(),
            help=f"{spec.metadata['doc']} (default: {spec.default})",
        )


def config_from(args: argparse.Namespace) -> EngineConfig:
    """The configuration that the flags describe."""
    names = [spec.name for spec in dataclasses.fields(EngineConfig)]
    return EngineConfig(**{name: getattr(args, name) for name in names})


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """One flag per field of `SamplingParams`."""
    group = parser.add_argument_group("sampling")
    for field in msgspec.structs.fields(SamplingParams):
        options: dict[str, Any] = {"default": None, "dest": f"sampling_{field.name}"}
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
    given = {
        field.name: getattr(args, f"sampling_{field.name}")
        for field in msgspec.structs.fields(SamplingParams)
    }
    values = defaults | {name: value for name, value in given.items() if value is not None}
    for name in ("stop", "stop_token_ids"):
        if name in values:
            values[name] = tuple(values[name])
    return SamplingParams(**values)


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
