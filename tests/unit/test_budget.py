"""Size is bounded: a file is read in one sitting, a function on one screen.

Lines of code are counted, without blank lines, comments and docstrings: explaining costs nothing.
GPU kernels are free of both bounds. Triton has no structs, so that half of a kernel is its list of
arguments, and a kernel is understood as a whole or not at all.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pellucid

SOURCE = Path(pellucid.__file__).parent
MOST_LINES_OF_A_FILE = 300
MOST_LINES_OF_A_FUNCTION = 60
FREE = "kernels/triton/"
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}

FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
BOUND = [file for file in FILES if not file.startswith(FREE)]


@cache
def text_of(file: str) -> str:
    return (SOURCE / file).read_text(encoding="utf-8")


def lines_of_code(text: str) -> int:
    """Lines that hold code: not those of comments, docstrings and fields' descriptions."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Name and length of each function, its docstring included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_what_is_counted() -> None:
    assert lines_of_code('"""One."""\n\n# two\nx = (\n    1,  # three\n)\n') == 3


@pytest.mark.parametrize("file", BOUND)
def test_a_file_and_its_functions_are_short(file: str) -> None:
    count = lines_of_code(text_of(file))
    assert count <= MOST_LINES_OF_A_FILE, "look for the seam that it hides"
    long = {
        name: size for name, size in functions(text_of(file)) if size > MOST_LINES_OF_A_FUNCTION
    }
    assert not long, "look for the seam that they hide"


def test_no_two_classes_share_a_name() -> None:
    """Two things of one name are met on the same walk through the code, sooner or later."""
    homes: dict[str, list[str]] = {}
    for file in FILES:
        for node in ast.parse(text_of(file)).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(file)
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
