"""docs/cli.md: every verb is there, its commands are ones that parse, and what it shows is what
they print, where that depends on no machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pellucid.cli import main
from pellucid.cli.verbs import VERBS, build_parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
LEFT_OUT = "…"
EXAMPLE = re.compile(r"(<!-- checked -->\n)?```console\n\$ pellucid (.*)\n((?:.*\n)*?)```")
EXAMPLES = [(bool(mark), words, shown) for mark, words, shown in EXAMPLE.findall(PAGE)]


def test_every_verb_has_a_section() -> None:
    assert re.findall(r"^## (.*)$", PAGE, flags=re.M) == list(VERBS)
    assert {words.split()[0] for _, words, _ in EXAMPLES} == set(VERBS)


@pytest.mark.parametrize("words", [words for _, words, _ in EXAMPLES])
def test_every_command_parses(words: str) -> None:
    argv = shlex.split(words)
    build_parser(argv).parse_args(argv)


@pytest.mark.parametrize(("words", "shown"), [e[1:] for e in EXAMPLES if e[0]])
def test_checked_examples_print_what_is_shown(
    words: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(words)) == 0
    printed = capsys.readouterr().out
    parts = [re.escape(part) for part in shown.split(LEFT_OUT + "\n")]
    assert re.fullmatch("(?:.*\n)*?".join(parts), printed), printed
