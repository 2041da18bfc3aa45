"""The one error that is the caller's to mend.

Every refusal of bad input is an `InputError`: one line that names the thing and the remedy. The
command line prints it and exits with 2, the server answers 4xx with it, the library raises it.
Anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: a file, an option or a request that cannot be used as given.

    `param` names the offending field of a request when there is one; `code` is the short machine
    word that OpenAI's error body carries (for example `context_length_exceeded`).
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ModelError(InputError):
    """A checkpoint that cannot be loaded: the message names the file and what to do."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """` Did you mean …?` if something known looks like `word`; else nothing. Capitals count for
    nothing: `H100` is close to `h100`."""
    import difflib  # only those who err wait for it

    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=1)
    return f" Did you mean {names[close[0]]}?" if close else ""


LONGEST = 500
"""Characters of somebody else's words in a message."""


def one_line(text: object) -> str:
    """`text` as a part of a message: without line breaks and other things that a damaged file's
    names may have, and not endless."""
    line = " ".join(str(text).split()).encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
