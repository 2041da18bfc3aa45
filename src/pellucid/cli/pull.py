"""`pellucid pull`: fetch a model, once."""

from __future__ import annotations

import argparse

from pellucid.cli.parser import Parser
from pellucid.model.hub import resolve

EXAMPLES = """examples:
  pellucid pull
  pellucid pull Qwen/Qwen3-0.6B"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "model", nargs="?", default="smollm2", help="alias or Hub id (default: smollm2)"
    )
    parser.add_argument("--revision", default="main", help="branch, tag or commit of a Hub model")


def run(args: argparse.Namespace) -> int:
    print(resolve(args.model, args.revision))
    return 0
