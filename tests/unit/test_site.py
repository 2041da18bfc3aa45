"""The documentation as a site: it builds without a warning, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(\S+?)["'\s>]"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|icon|preload|preconnect)\b[^>]*href=["']?(\S+?)["'\s>]"""
)
"""What a browser loads without being asked."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    return folder


def test_every_page_of_the_documentation_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    missing = [page for page in pages if not (site / page.with_suffix(".html")).is_file()]
    assert missing == []
    assert "every optimization is one switch" in (site / "index.html").read_text(encoding="utf-8")


def test_nothing_comes_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.is_relative_to(site / "explorer"):
            continue  # its own policy forbids it to load anything
        for found in FETCHED.findall(page.read_text(encoding="utf-8")):
            address = "".join(found)
            assert "://" not in address and not address.startswith("//"), (page, address)


def test_a_link_to_a_source_leads_to_its_line(site: Path) -> None:
    links = re.compile(r"""href=["']?([^"'\s>]*source/[^"'\s>#]+)#(__codelineno-[\d-]+)""")
    found = 0
    for page in (site / "learn").glob("*.html"):
        for target, anchor in links.findall(page.read_text(encoding="utf-8")):
            source = (page.parent / target).resolve()
            assert f'id="{anchor}"' in source.read_text(encoding="utf-8"), (page, target, anchor)
            found += 1
    assert found
