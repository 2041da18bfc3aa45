"""Where an engine runs, as the supervisor sees it, and how the server speaks to its operator."""

from __future__ import annotations

import sys
from typing import Protocol

from pellucid.server.link import EngineLink


class EngineHost(Protocol):
    """A process with an engine in it, or in tests a thread."""

    link: EngineLink

    async def stop(self) -> None: ...


def say(line: str) -> None:
    """One line on standard error."""
    print(f"pellucid: {line}", file=sys.stderr, flush=True)
