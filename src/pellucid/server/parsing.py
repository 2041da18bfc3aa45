"""A body, sorted field by field, as a strict struct.

`null` counts as absent, a no-op is dropped, a field that is refused must have a value that asks
for nothing, an unknown one is an error; what remains must fit the struct. Every error names the
field by its path in the body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from pellucid.errors import InputError
from pellucid.server.fields import NOTHING, REMEDIES, Harmless

RENAMED: Final[Mapping[str, str]] = {"repeat_penalty": "repetition_penalty"}
"""Other names of fields, for whatever has the field."""

Body = TypeVar("Body", bound=msgspec.Struct)


def parse(
    value: dict[str, Any],
    kind: type[Body],
    noops: frozenset[str] = frozenset(),
    refused: Harmless = NOTHING,
    where: str = "",
) -> Body:
    """`value` as a `kind`. `where` is the path of `value` in the body, for messages."""
    known = kind.__struct_fields__
    kept = {}
    for name, item in _renamed(value, known).items():
        if item is None or name in noops:
            continue
        path = f"{where}{name}"
        if name in refused:
            if item not in refused[name]:
                raise not_supported(path, refused[name])
        elif name not in known:
            raise InputError(f"unknown field {path!r}", param=path, code="unknown_field")
        else:
            kept[name] = item
    try:
        return msgspec.convert(kept, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), where) from error


def _renamed(value: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """`value` with the names that `known` has."""
    for other, name in RENAMED.items():
        if value.get(other) is None or name not in known:
            continue
        value = dict(value)
        item = value.pop(other)
        if value.get(name, item) not in (item, None):
            raise InputError(f"{other} and {name} are one field and differ", param=other)
        value[name] = item
    return value


def not_supported(path: str, harmless: tuple[Any, ...]) -> InputError:
    words = " or ".join(msgspec.json.encode(value).decode() for value in harmless)
    remedies = ["leave it out", words and f"send {words}", REMEDIES.get(path, "")]
    return InputError(
        f"{path} would change the answer and is not supported; "
        f"{', or '.join(filter(None, remedies))}",
        param=path,
        code="unsupported_field",
    )


_PATH = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")


def _wrong_type(message: str, where: str) -> InputError:
    """msgspec's message with the field in front: 'n: expected `int`, got `str`'."""
    match = _PATH.fullmatch(message)
    assert match
    what, path = match["what"], where + (match["path"] or "")
    if missing := _MISSING.fullmatch(what):
        path = ".".join(filter(None, [path.rstrip("."), missing[1]]))
        return InputError(f"{path} is missing", param=path, code="missing_field")
    what = what.replace(" | null", "")
    key = "a key: " if match["key"] else ""
    return InputError(f"{path}: {key}{what[0].lower()}{what[1:]}", param=path, code="wrong_type")
