"""The command line: one small file per verb.

A verb's module has `add_parser(verbs)`, which declares its arguments and sets `run`, and
`run(args)`, which returns the exit status: 0 done, 1 failed, 2 bad input (one line on stderr says
what and what to do about it), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pellucid import __version__
from pellucid.cli import bench, chat, doctor, features, generate, pull, serve
from pellucid.errors import InputError

VERBS = (serve, chat, generate, pull, bench, features, doctor)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pellucid", description="An LLM inference engine that you can see through."
    )
    parser.add_argument("--version", action="version", version=f"pellucid {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except InputError as error:
        print(f"pellucid: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
