"""docs/http.md names every route, field and option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pellucid.cli.parser import Parser
from pellucid.cli.serve import add_arguments
from pellucid.server import fields, messages, schemas
from pellucid.server.app import ROUTES
from pellucid.server.http import PAGE_FILES

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
NAMES = {word for code in re.findall(r"`([^`]+)`", TEXT) for word in re.findall(r"\w+", code)}

STRUCTS = (
    schemas.CompletionBody,
    schemas.ChatBody,
    schemas.StreamOptions,
    schemas.TokenizeBody,
    schemas.TokenizeChatBody,
    schemas.DetokenizeBody,
    messages.Message,
)
TABLES = (
    fields.CHAT_NOOPS,
    fields.STREAM_OPTIONS_NOOPS,
    fields.PART_NOOPS,
    fields.REFUSED,
    fields.CHAT_REFUSED,
    fields.TOOLS,
    fields.MESSAGE_REFUSED,
)


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_is_documented(struct: type) -> None:
    assert set(struct.__struct_fields__) - {"role"} <= NAMES  # type: ignore[attr-defined]


@pytest.mark.parametrize("table", TABLES)
def test_every_other_field_is_documented(table: object) -> None:
    assert set(table) <= NAMES  # type: ignore[call-overload]


def test_values_that_ask_for_nothing_are_documented() -> None:
    """Each with one of its values, as `name: value`."""
    for table in (fields.REFUSED, fields.CHAT_REFUSED):
        for name, values in table.items():
            assert not values or f"`{name}: " in TEXT, name


def test_every_route_is_documented() -> None:
    for route in ROUTES:
        path = route.path.replace(":path", "")
        if path.startswith("/explorer/v1/"):
            path = path.removeprefix("/explorer/v1/").split("/")[0]
        assert path in TEXT or path.startswith(PAGE_FILES), path


def test_every_option_is_documented() -> None:
    parser = Parser("serve")
    add_arguments(parser)
    (group,) = [g for g in parser._action_groups if g.title == "server"]
    for action in group._group_actions:
        assert f"`{action.option_strings[0]}" in TEXT
