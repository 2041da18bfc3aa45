"""`pellucid chat`: talk to the model in a terminal.

Ctrl-C while an answer comes stops the answer; at the prompt it clears the line, and Ctrl-D or /exit
ends the program. /clear forgets the conversation.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from pellucid.cli.common import (
    add_config_flags,
    add_sampling_flags,
    config_from,
    sampling_from,
)
from pellucid.cli.parser import Parser
from pellucid.errors import InputError
from pellucid.llm import LLM
from pellucid.request import SamplingParams

FALLBACK = {"temperature": 0.7, "top_p": 0.95}
"""For models whose authors recommend nothing."""

EXAMPLES = """examples:
  pellucid chat
  pellucid chat --system "Answer in one sentence." --temperature 0
In the chat, /help lists the commands."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--system", metavar="TEXT", help="system message of the conversation")
    add_sampling_flags(parser)
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    if sampling_from(args).n != 1:
        raise InputError("chat shows one answer at a time: n must be 1", param="n")
    llm = LLM.from_config(config_from(args))
    params = sampling_from(args, **(llm.engine.checkpoint.sampling_defaults or FALLBACK))
    system = [{"role": "system", "content": args.system}] if args.system else []
    messages = list(system)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (gives input() line editing and history)
    print(f"{llm.engine.info.model}: /clear forgets, /exit or Ctrl-D ends, Ctrl-C stops an answer")
    while (line := _ask()) is not None:
        if line == "/clear":
            messages = list(system)
        elif line:
            messages.append({"role": "user", "content": line})
            try:
                messages.append({"role": "assistant", "content": answer(llm, messages, params)})
            except InputError as error:
                print(f"{error} (/clear starts over)", file=sys.stderr)
                messages.pop()
    return 0


def answer(llm: LLM, messages: list[dict[str, str]], params: SamplingParams) -> str:
    """Stream one answer to stdout; what came before a Ctrl-C counts as the answer."""
    text, count = "", 0
    begin = time.perf_counter()
    pieces = llm.stream(messages, params)
    try:
        for piece in pieces:
            print(piece.text, end="", flush=True)
            text += piece.text
            count += len(piece.token_ids)
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    finally:
        pieces.close()
    rate = count / max(time.perf_counter() - begin, 1e-9)
    print(f"\n[{count} tokens, {rate:.0f} tokens/s]" if sys.stdout.isatty() else "")
    return text


def _ask() -> str | None:
    """The next line; None when the user has had enough."""
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            continue
        return None if line in ("/exit", "/quit") else line
