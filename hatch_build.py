"""Build hook: sdist and wheel carry the built page, so that whoever installs them needs no Node.

From a checkout npm builds it, from the lock file; a source distribution carries one, which is taken
as it is. An editable install never waits for it: the server then says what to run. A wheel without
a page is refused, because nobody would notice before the first visitor, unless it is asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = Path("src/pellucid/web/dist/index.html")
COMMANDS = (("npm", "ci", "--ignore-scripts"), ("npm", "run", "build"))
WITHOUT = "PELLUCID_WITHOUT_PAGE"
MISSING = (
    "The page is not built, and npm, which builds it, is not here. Either install Node 20 or newer "
    "with npm (Debian: apt install nodejs npm), or install from a release's source distribution or "
    f"wheel, which have the page in them, or set {WITHOUT}=1 to do without the page."
)


class PageBuildHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get(WITHOUT) == "1":
            return
        root = Path(self.root)
        if is_stale(root) and shutil.which("npm"):
            build_page(root / "frontend")
        if not (root / PAGE).exists():
            raise RuntimeError(MISSING)


def is_stale(root: Path) -> bool:
    """Whether there is no page, or one older than a source of it. In a source distribution all
    files have the same time."""
    if not (root / PAGE).exists():
        return True
    built = (root / PAGE).stat().st_mtime
    folders = [root / "frontend" / name for name in ("src", "index.html", "package-lock.json")]
    files = [file for place in folders for file in (place, *place.rglob("*")) if file.is_file()]
    return any(file.stat().st_mtime > built for file in files)


def build_page(frontend: Path) -> None:
    """Run npm's two commands; RuntimeError if one of them fails."""
    for command in COMMANDS:
        if subprocess.run(command, cwd=frontend).returncode != 0:
            raise RuntimeError(
                f"`{' '.join(command)}` failed in frontend/; its last words are above"
            )
