"""`pellucid ablate`: what each optimization buys on this machine, with this model."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from pellucid.cli.common import add_config_flags, config_from, write_json
from pellucid.cli.parser import Parser
from pellucid.errors import InputError
from pellucid.explore.ablate import ORDERS, ablate
from pellucid.explore.ablate_table import table
from pellucid.explore.arms import SHORTEST, ArmWorkload

FLAGS = {
    "num_prompts": "requests at once in the batch",
    "prompt_len": "tokens of a prompt",
    "output_len": "tokens of the longest answer; others in the batch have half of it or more",
    "repeats": "measured repeats of each configuration",
    "temperature": "of the requests; 0 leaves the sampler out",
    "top_k": "of the requests; 0 is all",
    "top_p": "of the requests; 1 is all",
    "seed": "of the random prompts and of the draws",
    "limit_s": "seconds that the runs of one configuration may take; a slow one answers shorter",
}
_LEAST = {"num_prompts": 1, "prompt_len": 1, "output_len": SHORTEST, "repeats": 1, "seed": 0}


EXAMPLES = """examples:
  pellucid ablate                                       each switch off alone, then the climb
  pellucid ablate --order off --repeats 3 --limit-s 10  the first half, in a few minutes"""


def add_arguments(parser: Parser) -> None:
    for spec in dataclasses.fields(ArmWorkload):
        parser.add_argument(
            "--" + spec.name.replace("_", "-"),
            type=type(spec.default),
            default=spec.default,
            help=f"{FLAGS[spec.name]} (default: {spec.default})",
        )
    parser.add_argument(
        "--order",
        action="append",
        choices=ORDERS,
        help="off: each switch off alone; climb: from everything off, each on alone and then the "
        "best one at a time (default: both)",
    )
    parser.add_argument("--json", metavar="FILE", help="environment, samples, medians; - is stdout")
    parser.add_argument("--markdown", action="store_true", help="print the README's tables")
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    work = ArmWorkload(
        **{spec.name: getattr(args, spec.name) for spec in dataclasses.fields(ArmWorkload)}
    )
    for name, least in _LEAST.items():
        if getattr(work, name) < least:
            raise InputError(
                f"{name} must be at least {least}, not {getattr(work, name)}", param=name
            )
    if not work.limit_s > 0:
        raise InputError(f"limit_s must be above 0, not {work.limit_s:g}", param="limit_s")
    work.params(work.output_len)  # refuses bad values before a model is loaded
    result = ablate(config_from(args), work, _progress, args.order or ORDERS)
    if args.json != "-":
        print(table(result, markdown=args.markdown))
    if args.json:
        write_json(result, args.json)
    return 0


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
