"""argparse with shorter words: one line for a mistake, and what was probably meant.

By itself argparse answers a typo with its usage, twenty lines for a verb with forty options, and
says what is wrong below that.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from pellucid.errors import suggestion


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Examples keep their lines, and the help stands beside names of up to 26 characters."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


class Parser(argparse.ArgumentParser):
    """Parser of the program, of a verb, or of what a verb is about (`bench latency`)."""

    full = True
    """Whether the help shows folded options too (`add_folded_group`)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", Formatter)
        super().__init__(*args, **options)
        self.set_defaults(parser=self)  # a verb's own overrides that of the program

    def add_folded_group(self, title: str, about: str = "") -> FoldedGroup:
        """A group of options that only --help-all shows."""
        if "--help-all" not in self._option_string_actions:
            self.add_argument("--help-all", action="help", help="show every option")
        return FoldedGroup(self, title, about)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help says what there is)\n")

    def refuse_unknown(self, word: str) -> NoReturn:
        """Exit over an argument that no option takes."""
        if not word.startswith("-"):
            self.error(f"unexpected argument {word!r}")
        name = word.split("=")[0]
        self.error(f"unknown option {name}." + suggestion(name, self._option_string_actions))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse's own, with a suggestion."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            what = f"{value!r} is not one of {', '.join(known)}." + suggestion(str(value), known)
            raise argparse.ArgumentError(action, what)


class FoldedGroup:
    """What `add_folded_group` returns: its options take effect whether or not they are shown."""

    def __init__(self, parser: Parser, title: str, about: str) -> None:
        self._shown = parser.full
        self._group = parser.add_argument_group(title, about) if parser.full else parser

    def add_argument(self, *names: str, **options: Any) -> None:
        if not self._shown:
            options["help"] = argparse.SUPPRESS
        self._group.add_argument(*names, **options)
