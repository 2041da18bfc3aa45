#!/usr/bin/env python
"""Write every page of the documentation that is made from the switchboard or recorded results.

    python bench/pages.py

    README.md            two tables: the switches, and six rows of speed     page_readme.py
    docs/results.md      all recorded speeds                                 page_results.py
    docs/switches/*.md   a page for each switch                              page_switches.py
    docs/claims.md       what is said of inference, beside what was measured claims.py
    docs/learn/*.md      the lessons, from the templates in bench/lessons    page_lessons.py

No figure in them is typed by hand. `tests/unit/test_pages.py` fails when a page says anything else
than the switchboard and `bench/results` do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import claims
import page_lessons
import page_readme
import page_results
import page_switches

ROOT = Path(__file__).parents[1]
SWITCHES = ROOT / "docs" / "switches"


@cache
def pages() -> dict[Path, str]:
    """Path → the text that belongs there; made once in a process."""
    readme = ROOT / "README.md"
    return {
        readme: page_readme.page(readme.read_text(encoding="utf-8")),
        ROOT / "docs" / "results.md": page_results.page(),
        claims.PAGE: claims.page(),
        **{SWITCHES / name: text for name, text in page_switches.pages().items()},
        **page_lessons.pages(),
    }


def strays() -> list[Path]:
    """Pages of switches that are gone."""
    return [path for path in sorted(SWITCHES.glob("*.md")) if path not in pages()]


def write() -> None:
    SWITCHES.mkdir(exist_ok=True)
    for path in strays():
        path.unlink()
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
