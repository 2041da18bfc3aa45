"""What is written about the switchboard, the results and the files is what they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pages

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "frontend" / "README.md"])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


@pytest.mark.parametrize("path", pages.pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_generated_page_is_up_to_date(path: Path) -> None:
    assert path.is_file() and path.read_text(encoding="utf-8") == pages.pages()[path], (
        "run: python bench/pages.py"
    )


def test_no_page_is_left_of_a_switch_that_is_gone() -> None:
    assert pages.strays() == [], "run: python bench/pages.py"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(path: Path) -> None:
    targets = [target for target, _ in LINK.findall(path.read_text(encoding="utf-8"))]
    files = [target for target in targets if "://" not in target and not target.startswith("/")]
    assert [target for target in files if not (path.parent / target).exists()] == []


def test_every_name_in_the_glossary_stands_in_the_source() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src" / "pellucid").rglob("*.py")
    )
    files = {path.name for path in (ROOT / "src" / "pellucid").rglob("*.py")}
    names = {name for name in re.findall(r"`([\w.]+)`", text) if name not in files}
    missing = [name for name in names if not all(part in source for part in name.split("."))]
    assert missing == []
