"""Which verb there is, and running it.

A verb's module has `add_arguments(parser)`, `EXAMPLES` (shown below its help) and `run(args)`,
which returns the exit status: 0 done, 1 failed, 2 bad input (one line on stderr says what and what
to do about it), 130 interrupted. Only the module of the verb that is asked for is imported, since
most of them bring torch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from pellucid import __version__
from pellucid.cli import INTERRUPTED, leave
from pellucid.cli.parser import Parser
from pellucid.errors import InputError
from pellucid.process import own_process, wait_briefly

VERBS = {
    "serve": "answer over HTTP in OpenAI's API",
    "chat": "talk to the model in the terminal",
    "generate": "complete prompts",
    "pull": "fetch a model and print where it lies",
    "bench": "measure speed beside the machine's limit",
    "model": "what a step should take, by the cost model",
    "measure": "where the time of a step goes, at each length",
    "calibrate": "fit the cost model to a measurement of this machine",
    "crossover": "from what length on attention is no longer negligible",
    "ablate": "what each optimization buys: the engine without it",
    "features": "every optimization: its switch, home and effect",
    "doctor": "what this machine has and what will be used",
}
ENGINE_VERBS = ("chat", "generate", "bench", "measure", "ablate", "doctor")
"""Those that compute in this process, or say how one would: it is tuned for that."""

BEGIN = """first steps:
  pellucid chat                         talk to the default model (98 MB, fetched once)
  pellucid serve                        the same over HTTP, with a page that shows where time goes
  pellucid VERB --help                  options and examples of a verb"""


def run_verb(given: Sequence[str]) -> int:
    """Parse the words `given` and run their verb; returns the exit status."""
    words = list(given)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    wait_briefly()  # before the verb's module imports torch
    parser = build_parser(words)
    if not words:
        parser.print_help(sys.stderr)
        return 2
    args, unknown = parser.parse_known_args(words)
    if unknown:
        args.parser.refuse_unknown(unknown[0])
    if words[0] in ENGINE_VERBS:
        own_process()
    # From here on there may be something to put away, so Ctrl-C is an exception; the next one, if
    # putting away takes long, ends the process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = int(args.run(args))
        if sys.stdout:  # None where the caller closed it
            sys.stdout.flush()
        return status
    except InputError as error:
        print(f"pellucid: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `| head` has seen enough; what Python still has to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, leave)
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def build_parser(words: Sequence[str]) -> Parser:
    """The parser, with the arguments of the verb that `words` begin with and the others' names."""
    parser = Parser(
        prog="pellucid",
        description="An LLM inference engine that you can see through.",
        usage="%(prog)s VERB [options]",
        epilog=BEGIN,
    )
    parser.add_argument("--version", action="version", version=f"pellucid {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", prog=parser.prog, required=True)
    for name, about in VERBS.items():
        verb = verbs.add_parser(name, help=about, description=about)
        if words and name == words[0]:
            fill(verb, name, full="--help-all" in words)
    return parser


def fill(verb: Parser, name: str, full: bool) -> None:
    """The arguments of a verb. `full` shows the options that its help leaves folded."""
    module = import_module(f"pellucid.cli.{name}")
    verb.full = full
    verb.usage = "%(prog)s [options]"
    verb.epilog = module.EXAMPLES
    module.add_arguments(verb)
    verb.set_defaults(run=module.run)
