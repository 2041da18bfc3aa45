"""One flag for each sampling parameter, with the words that `SamplingParams` has for it."""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import textwrap
import types
import typing
from typing import Any

import msgspec

from pellucid.cli.common import default_text, flag_of
from pellucid.cli.parser import Parser
from pellucid.errors import InputError, suggestion
from pellucid.request import SamplingParams

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
        options["help"] = docs[field.name] + default_text(default)
        match _kind(field.type):
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
        group.add_argument(flag_of(field.name), **options)


def sampling_from(args: argparse.Namespace, **defaults: Any) -> SamplingParams:
    """The sampling parameters that the flags describe; `defaults` where no flag is given."""
    values = defaults | given_sampling(args)
    if values.get("max_tokens") == UNLIMITED:
        values["max_tokens"] = None
    return SamplingParams(**values)


def changed(params: SamplingParams, name: str, text: str) -> SamplingParams:
    """`params` with one field set to what `text` says. Raises `InputError`."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(SamplingParams)}
    if name not in kinds:
        raise InputError(f"{name} is no sampling parameter." + suggestion(name, kinds))
    try:
        if _kind(kinds[name]) in ("ints", "mapping"):
            value = msgspec.json.decode(text, type=kinds[name], strict=False)
        elif _kind(kinds[name]) == "strings":
            value = (text,)
        else:
            value = msgspec.convert(text, kinds[name], strict=False)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{name} cannot be {text!r}: {error}", param=name) from error
    if name == "max_tokens" and value == UNLIMITED:
        value = None
    return msgspec.structs.replace(params, **{name: value})


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


def _kind(kind: Any) -> str:
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
