"""`pellucid pull`: fetch a model, once."""

from __future__ import annotations

import argparse

from pellucid.cli.common import Verbs
from pellucid.model.hub import resolve


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser("pull", help="fetch a model and print where it lies")
    parser.add_argument(
        "model", nargs="?", default="smollm2", help="alias or Hub id (default: smollm2)"
    )
    parser.add_argument("--revision", default="main", help="branch, tag or commit of a Hub model")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    print(resolve(args.model, args.revision))
    return 0
