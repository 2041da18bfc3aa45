"""Build hook: the page goes into the wheel, built, so that whoever installs it needs no Node.

A page that is already there is taken as it is (a source distribution carries one); otherwise npm
builds it from the lock file. An editable install never waits for it: the server then says what to
run. A wheel without a page is refused, because nobody would notice before the first visitor.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = Path("src/pellucid/web/dist/index.html")
COMMANDS = (("npm", "ci", "--ignore-scripts"), ("npm", "run", "build"))
MISSING = (
    "The page is not built and npm could not build it. Install Node 20 or newer and run "
    "`npm ci && npm run build` in frontend/, or build the wheel from a source distribution, which "
    "has the page in it."
)


class PageBuildHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        if not (root / PAGE).exists():
            build_page(root / "frontend")
        if not (root / PAGE).exists():
            raise RuntimeError(MISSING)


def build_page(frontend: Path) -> None:
    """Run npm's two commands; RuntimeError if npm is not there or one of them fails."""
    if (npm := shutil.which("npm")) is None or not frontend.is_dir():
        raise RuntimeError(MISSING)
    for _, *arguments in COMMANDS:
        done = subprocess.run([npm, *arguments], cwd=frontend)
        if done.returncode != 0:
            raise RuntimeError(f"`npm {' '.join(arguments)}` failed in frontend/. {MISSING}")
