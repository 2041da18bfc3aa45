"""The command line: one small file per verb, and what Ctrl-C does until a verb runs.

Importing torch takes seconds. A Ctrl-C in that time would be raised inside some library's import,
and end in a traceback of forty lines, or in the library's own complaint about being half imported.
So the first thing that happens here is that Ctrl-C says one word and ends the process: nothing has
begun that would have to be put away. Everything else is imported after that (`verbs.py`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

INTERRUPTED = 130
"""The exit status of whoever was ended by Ctrl-C: 128 and the signal's number."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb of `argv`, by default of the command line; returns the exit status.

    When the command line itself runs, a Ctrl-C after the verb (while Python puts its threads away)
    is as quiet as one before it; a caller that gives `argv` gets its own handler back.
    """
    before = signal.signal(signal.SIGINT, leave)
    try:
        from pellucid.cli.verbs import run_verb

        return run_verb(sys.argv[1:] if argv is None else argv)
    finally:
        signal.signal(signal.SIGINT, leave if argv is None else before)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Inside, which should be imports and nothing else, Ctrl-C ends the process as above."""
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def leave(*_: object) -> None:
    """End the process now. The output that is still in Python's buffer would be lost, but there is
    none: what prints piece by piece flushes, and before a verb runs nothing prints."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
