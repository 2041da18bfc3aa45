"""The deletion test: what a switch consists of is named in the switch's own files and nowhere else.

"One switch, a few named files" is a claim about the source, so the source is read: no file of the
engine may use one of a switch's identifiers unless the switchboard lists the file among its homes.
Free are the files that choose and compose (`ROOT`), whatever measures the engine (`explore`) and
the command line. Strings, docstrings and comments do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pellucid
from pellucid.features import FEATURES, Feature

SOURCE = Path(pellucid.__file__).parent
ROOT = {
    *("config.py", "facts.py", "features.py", "resolve.py"),  # asked for, and what it comes to
    "assembly.py",  # puts the parts together
    *("attention/__init__.py", "kernels/__init__.py"),  # make by name
}
OUTSIDE = ("explore/", "cli/")
MOST_HOMES = {"graphs": 3, "overlap": 3, "sampler": 3}


@cache
def identifiers(file: str) -> frozenset[str]:
    """Every name that the file defines, imports or uses."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    return frozenset(name for node in ast.walk(tree) for name in names_in(node))


def names_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.alias(name=name):
            yield name
        case ast.keyword(arg=str(name)):
            yield name


def engine_files() -> list[str]:
    files = (path.relative_to(SOURCE).as_posix() for path in sorted(SOURCE.rglob("*.py")))
    return [file for file in files if file not in ROOT and not file.startswith(OUTSIDE)]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.key)
def test_a_switch_is_named_in_its_homes_only(feature: Feature) -> None:
    assert feature.names
    found = {file: identifiers(file) & set(feature.names) for file in engine_files()}
    strangers = {
        file: names for file, names in found.items() if names and file not in feature.homes
    }
    assert not strangers, "move what belongs to the switch, or list the file among its homes"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.key)
def test_a_home_is_one(feature: Feature) -> None:
    used: set[str] = set()
    for home in feature.homes:
        names = identifiers(home) & set(feature.names)
        assert names, f"{home} does not name {feature.key}: it is no home"
        used |= names
    assert used == set(feature.names), "of nothing that there is"
    assert len(feature.homes) <= MOST_HOMES.get(feature.key, 9)
