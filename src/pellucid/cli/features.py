"""`pellucid features`: the switchboard."""

from __future__ import annotations

import argparse
import textwrap

from pellucid.cli.common import write_json
from pellucid.cli.parser import Parser
from pellucid.features import FEATURES, markdown_table

EXAMPLES = """examples:
  pellucid features
  pellucid generate "Once upon a time" --kv-cache off   a switch is an option of every engine"""


def add_arguments(parser: Parser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as the README's table")
    form.add_argument("--json", metavar="FILE", help="as JSON; - is stdout")


def run(args: argparse.Namespace) -> int:
    if args.json:
        write_json([feature._asdict() for feature in FEATURES], args.json)
    elif args.markdown:
        print(markdown_table())
    else:
        for f in FEATURES:
            conflicts = ", ".join(f.conflicts) or "none"
            print(f"{f.key} = {' | '.join(f.choices)}   (default {f.default}, off {f.off})")
            print(textwrap.indent(textwrap.fill(f.about, 92), "    "))
            print(f"    exactness {f.exactness} · conflicts {conflicts} · {f.paper}")
            print(textwrap.indent(textwrap.fill(", ".join(f.homes), 92), "    "), end="\n\n")
    return 0
