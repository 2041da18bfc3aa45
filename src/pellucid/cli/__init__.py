"""The command line: one small file per verb.

A verb's module has `add_arguments(parser)` and `run(args)`, which returns the exit status: 0 done,
1 failed, 2 bad input (one line on stderr says what and what to do about it), 130 interrupted. Only
the module of the verb that is asked for is imported, since most of them bring torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from pellucid import __version__
from pellucid.errors import InputError

VERBS = {
    "serve": "answer over HTTP in OpenAI's API",
    "chat": "talk to the model in the terminal",
    "generate": "complete prompts",
    "pull": "fetch a model and print where it lies",
    "bench": "measure speed beside the machine's limit",
    "model": "what a step should take, from shapes and peaks",
    "measure": "where the time of a step goes, at each length",
    "calibrate": "fit the model's efficiencies to a measurement",
    "crossover": "from what length on attention is no longer negligible",
    "ablate": "what each optimization buys: the engine without it",
    "features": "every optimization: its switch, home and effect",
    "doctor": "what this machine has and what will be used",
}


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of the verb `wanted` and the names of the others."""
    parser = argparse.ArgumentParser(
        prog="pellucid", description="An LLM inference engine that you can see through."
    )
    parser.add_argument("--version", action="version", version=f"pellucid {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, about in VERBS.items():
        verb = verbs.add_parser(name, help=about, description=about)
        if name == wanted:
            module = import_module(f"pellucid.cli.{name}")
            module.add_arguments(verb)
            verb.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(next(iter(words), None)).parse_args(words)
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
