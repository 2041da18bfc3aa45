"""`pellucid serve`: the OpenAI-compatible server."""

from __future__ import annotations

import argparse
import os

from pellucid.cli import leaving_at_once
from pellucid.cli.common import add_config_flags, config_from
from pellucid.cli.parser import Parser
from pellucid.errors import InputError
from pellucid.server.launch import WORKER, bind, launch

KEYS_VARIABLE = "PELLUCID_API_KEYS"


EXAMPLES = """examples:
  pellucid serve
  pellucid serve --model Qwen/Qwen3-0.6B --port 8080 --api-key secret"""


def add_arguments(parser: Parser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    group.add_argument(
        "--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)"
    )
    group.add_argument(
        "--served-model-name",
        action="append",
        default=[],
        metavar="NAME",
        help="what clients call the model; may be given several times (default: its own name)",
    )
    add_access_flags(group)
    group.add_argument(
        "--drop-tools",
        action="store_true",
        help="answer chats that bring tools (as Open WebUI's do) without them and say so in a "
        "warning header; tools are refused otherwise",
    )
    group.add_argument(
        "--sampling-defaults",
        choices=("model", "openai"),
        default="model",
        help="what sampling fields come to that a request leaves out: what the model's authors "
        "recommend, or OpenAI's (temperature 1) (default: %(default)s)",
    )
    group.add_argument(
        "--no-spare",
        action="store_true",
        help="keep no second process that has its imports done and takes over when the engine's "
        "dies: saves some 150 MB of memory, and a restart takes two or more seconds longer",
    )
    group.add_argument(
        "--max-body",
        type=int,
        default=8 << 20,
        metavar="BYTES",
        help="largest request body (default: %(default)s)",
    )
    add_config_flags(parser)


def add_access_flags(group: argparse._ArgumentGroup) -> None:
    """Who may call, and change what others get."""
    group.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help="a key that lets a client in; may be given several times. Then every path but "
        f"/health and /ping needs one. {KEYS_VARIABLE} (separated by commas) keeps keys out of the "
        "list of processes",
    )
    group.add_argument(
        "--allowed-origins",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a page's origin, as https://host:port, that may call from a browser; may be given "
        "several times, * means any (default: none but the server's own page)",
    )
    group.add_argument(
        "--fixed-switches",
        action="store_true",
        help="refuse to change switches while the server runs; without it, whoever may call may "
        "change them for everybody",
    )
    group.add_argument(
        "--no-auto-measure",
        dest="auto_measure",
        action="store_false",
        help="do not let the page measure while nobody wants anything else of the engine",
    )


def run(args: argparse.Namespace) -> int:
    config = config_from(args)
    if not 0 <= args.port <= 65535:
        raise InputError(f"port must be between 0 and 65535, not {args.port}", param="port")
    if args.max_body < 1:
        raise InputError(f"max-body must be at least 1, not {args.max_body}", param="max-body")
    keys = api_keys(args.api_key)
    worker = [*WORKER, config.device]
    sock = bind(args.host, args.port)
    with leaving_at_once():
        first = launch(worker)
        from pellucid.server.serve import ServeOptions, serve  # while that one imports, too
    options = ServeOptions(
        model_names=args.served_model_name,
        api_keys=keys,
        max_body=args.max_body,
        allowed_origins=args.allowed_origins,
        drop_tools=args.drop_tools,
        fixed_switches=args.fixed_switches,
        auto_measure=args.auto_measure,
        spare=not args.no_spare,
        sampling_defaults=args.sampling_defaults,
    )
    with sock:
        return serve(config, options, sock, first, worker)


def api_keys(given: list[str]) -> list[str]:
    """The keys from the flags and the environment. An empty one would let everybody in."""
    variable = os.environ.get(KEYS_VARIABLE)
    keys = given + (variable.split(",") if variable is not None else [])
    if not all(key.strip() for key in keys):
        raise InputError(f"an API key is empty; see --api-key and {KEYS_VARIABLE}")
    return [key.strip() for key in keys]
