"""`pellucid chat`: talk to the model in a terminal.

Ctrl-C while an answer comes stops the answer; twice at the prompt it ends the program, as Ctrl-D
and /exit do. A line that begins with a slash is a command (`COMMANDS`), and never goes to the
model; one that begins with two goes there with one.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pellucid.cli import INTERRUPTED, leaving_at_once
from pellucid.cli.common import add_config_flags, config_from
from pellucid.cli.parser import Parser
from pellucid.cli.sampling import UNLIMITED, add_sampling_flags, changed, sampling_from
from pellucid.errors import InputError, suggestion
from pellucid.model.checkpoint import Checkpoint, open_checkpoint
from pellucid.request import SamplingParams, to_builtins

if TYPE_CHECKING:
    from pellucid.llm import LLM

FALLBACK = {"temperature": 0.7, "top_p": 0.95}
"""For models whose authors recommend nothing."""
MAX_TOKENS = 1024
EXAMPLES = """examples:
  pellucid chat
  pellucid chat --system "Answer in one sentence." --temperature 0
In the chat, /help lists the commands."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--system", metavar="TEXT", help="system message of the conversation")
    add_sampling_flags(parser, max_tokens=MAX_TOKENS, **FALLBACK)
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    refuse_several(sampling_from(args))
    config = config_from(args)
    checkpoint = open_checkpoint(config)
    refuse_what_cannot_chat(checkpoint)
    defaults = {"max_tokens": MAX_TOKENS} | dict(checkpoint.sampling_defaults or FALLBACK)
    params = sampling_from(args, **defaults)
    if sys.stderr.isatty():
        print(f"loading {checkpoint.name} ...", end="", file=sys.stderr, flush=True)
    with leaving_at_once():
        from pellucid.llm import LLM
    llm = LLM.from_config(config, checkpoint=checkpoint)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (gives input() line editing and history)
    return Chat(llm, params, args.system or "").talk()


def refuse_several(params: SamplingParams) -> None:
    if params.n != 1:
        raise InputError("chat shows one answer at a time: n must be 1", param="n")


def refuse_what_cannot_chat(checkpoint: Checkpoint) -> None:
    """`InputError` with the remedy, before weights are read and a question is typed."""
    if checkpoint.tokenizer is None:
        raise InputError(f"{checkpoint.path} has no tokenizer.json, so there is no text to chat in")
    if checkpoint.tokenizer.chat_template is None:
        raise InputError(
            f"{checkpoint.name} has no chat template: it was made to go on with a text, not to "
            "answer. Use pellucid generate with it, or chat with an instruct model (their names "
            "end in -Instruct, -it or -chat) such as smollm2"
        )


class Chat:
    """One conversation, and what its answers are made with."""

    def __init__(self, llm: LLM, params: SamplingParams, system: str = "") -> None:
        self.llm = llm
        self.params = params
        self.messages: list[dict[str, str]] = []
        self.set_system(system)

    def talk(self) -> int:
        """Read lines until the user has had enough; the exit status."""
        if sys.stdin.isatty():
            print(f"{self.llm.engine.info.model}, {self.settings()}")
            print("/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends")
        try:
            while (line := ask()) not in (None, "/exit", "/quit"):
                self.take(line or "")
        except KeyboardInterrupt:
            return INTERRUPTED
        return 0

    def take(self, line: str) -> None:
        """One line: a command, or what the user says."""
        try:
            if line.startswith("//"):
                self.say(line[1:])
            elif line.startswith("/"):
                name, _, rest = line.partition(" ")
                command(name)(self, rest.strip())
            elif line:
                self.say(line)
        except InputError as error:
            print(error, file=sys.stderr)

    def say(self, text: str) -> None:
        """Ask, and keep question and answer; a question that is refused leaves nothing behind."""
        question = [*self.messages, {"role": "user", "content": text}]
        said = answer(self.llm, question, self.params)
        self.messages = [*question, {"role": "assistant", "content": said}]

    def retry(self, rest: str) -> None:
        if len(self.messages) < 2:
            raise InputError("nothing has been asked yet")
        *before, question, _ = self.messages
        self.messages = before
        self.say(question["content"])

    def clear(self, rest: str = "") -> None:
        self.messages = [m for m in self.messages if m["role"] == "system"]

    def set_system(self, text: str) -> None:
        """A new system message, or none; the conversation starts over."""
        self.messages = [{"role": "system", "content": text}] if text else []

    def set_param(self, rest: str) -> None:
        """`temperature 0.2`; nothing: show what there is."""
        name, _, value = rest.partition(" ")
        if value:
            params = changed(self.params, name, value.strip())
            refuse_several(params)
            self.params = params
        print(self.settings())

    def set_switch(self, rest: str) -> None:
        """`kv_cache off`; a name: that switch; nothing: all of them."""
        name, _, value = rest.partition(" ")
        if value:
            self.llm.switch(**{name: value.strip()})
        info = self.llm.engine.info
        if name and name not in info.switches:
            raise InputError(f"there is no switch {name}.{suggestion(name, info.switches)}")
        for key, current in info.switches.items():
            if name in ("", key):
                can = [v for v, why_not in info.obstacles[key].items() if not why_not]
                others = ", ".join(v for v in can if v != current)
                print(f"  {key:16} {current:11} " + (f"also {others}" if others else ""))

    def settings(self) -> str:
        """What the answers are sampled with, without what is as `SamplingParams` has it."""
        plain = to_builtins(SamplingParams())
        now = to_builtins(self.params) | {"temperature": self.params.temperature}
        shown = {k: v for k, v in now.items() if v != plain[k] or k == "temperature"}
        return ", ".join(f"{name} {value}" for name, value in shown.items())

    def help(self, rest: str) -> None:
        for name, (about, _) in COMMANDS.items():
            print(f"  {name:25} {about}")


COMMANDS: dict[str, tuple[str, Callable[[Chat, str], None]]] = {
    "/help": ("this list", Chat.help),
    "/clear": ("forget the conversation", Chat.clear),
    "/retry": ("ask the last question again", Chat.retry),
    "/system TEXT": ("start over with this system message, or with none", Chat.set_system),
    "/set NAME VALUE": (
        "set a sampling parameter (temperature 0.2); alone: show them",
        Chat.set_param,
    ),
    "/switch NAME VALUE": (
        "change an optimization while the engine runs (kv_cache off); alone: show them",
        Chat.set_switch,
    ),
    "/exit": ("end, as Ctrl-D does", lambda chat, rest: None),
    "//...": ("say a line that begins with a slash", lambda chat, rest: None),
}


def command(name: str) -> Callable[[Chat, str], None]:
    """What `/name` does; `InputError` with the list if it is none."""
    known = {shown.split()[0]: act for shown, (_, act) in COMMANDS.items()}
    if name not in known:
        raise InputError(
            f"{name} is no command.{suggestion(name, known)} There are {', '.join(known)}; two "
            "slashes say a line that begins with one"
        )
    return known[name]


def answer(llm: LLM, messages: list[dict[str, str]], params: SamplingParams) -> str:
    """Stream one answer to stdout; what came before a Ctrl-C counts as the answer."""
    text, count, reason = "", 0, None
    begin = time.perf_counter()
    pieces = llm.stream(messages, params)
    try:
        for piece in pieces:
            print(piece.text, end="", flush=True)
            text += piece.text
            count += len(piece.token_ids)
            reason = piece.finish_reason
            if piece.error is not None:
                print(f" [failed: {piece.error}]", end="")
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    finally:
        pieces.close()
    if reason == "length":
        print(f" [cut at {count} tokens; /set max_tokens {UNLIMITED} lifts the limit]", end="")
    rate = count / max(time.perf_counter() - begin, 1e-9)
    print(f"\n[{count} tokens, {rate:.0f} tokens/s]" if sys.stdout.isatty() else "")
    return text


def ask() -> str | None:
    """The next line; None at its end. KeyboardInterrupt when Ctrl-C comes twice in a row."""
    warned = False
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            if warned:
                raise
            warned = True
            print("Ctrl-C again, Ctrl-D or /exit ends")
